//! What a command and a flag are.

use std::future::Future;
use std::pin::Pin;

use crate::cli::Invocation;
use crate::error::CliResult;

/// What runs a command: takes the parsed invocation, gives the exit status.
pub(crate) type FnRun = for<'a> fn(&'a Invocation<'a>) -> Pin<Box<dyn Future<Output = CliResult<u8>> + 'a>>;

/// One command, or a group of commands.
pub(crate) struct Cmd {
    pub(crate) name: &'static str,
    /// The operands as the usage line shows them, after the command's path.
    pub(crate) usage: &'static str,
    /// The line in the parent's list.
    pub(crate) short: &'static str,
    /// The description in its own help; empty: `short`.
    pub(crate) long: &'static str,
    /// Other names under the same parent.
    pub(crate) aliases: &'static [&'static str],
    /// The full spellings listed under `Aliases:`, without the program's name; empty: made from `aliases`.
    pub(crate) spellings: &'static [&'static str],
    pub(crate) flags: &'static [&'static [Flag]],
    pub(crate) args: Args,
    /// Whether flags may follow operands.
    pub(crate) interspersed: bool,
    /// The words after it are its own to read, flags too.
    pub(crate) raw: bool,
    pub(crate) category: Category,
    pub(crate) subs: &'static [&'static Cmd],
    pub(crate) run: Option<FnRun>,
}

impl Cmd {
    /// A command with operands and flags.
    pub(crate) const fn new(name: &'static str, usage: &'static str, short: &'static str, run: FnRun) -> Cmd {
        Cmd {
            name,
            usage,
            short,
            long: "",
            aliases: &[],
            spellings: &[],
            flags: &[],
            args: Args::Any,
            interspersed: true,
            raw: false,
            category: Category::Plain,
            subs: &[],
            run: Some(run),
        }
    }

    /// A group of commands.
    pub(crate) const fn group(name: &'static str, short: &'static str, subs: &'static [&'static Cmd]) -> Cmd {
        Cmd {
            name,
            usage: "",
            short,
            long: "",
            aliases: &[],
            spellings: &[],
            flags: &[],
            args: Args::None,
            interspersed: false,
            raw: false,
            category: Category::Management,
            subs,
            run: None,
        }
    }

    pub(crate) const fn usage(mut self, usage: &'static str) -> Cmd {
        self.usage = usage;
        self
    }

    pub(crate) const fn long(mut self, long: &'static str) -> Cmd {
        self.long = long;
        self
    }

    pub(crate) const fn aliases(mut self, aliases: &'static [&'static str]) -> Cmd {
        self.aliases = aliases;
        self
    }

    pub(crate) const fn spellings(mut self, spellings: &'static [&'static str]) -> Cmd {
        self.spellings = spellings;
        self
    }

    pub(crate) const fn flags(mut self, flags: &'static [&'static [Flag]]) -> Cmd {
        self.flags = flags;
        self
    }

    pub(crate) const fn args(mut self, args: Args) -> Cmd {
        self.args = args;
        self
    }

    /// Flags end at the first operand: the rest belongs to the program run.
    pub(crate) const fn flags_first(mut self) -> Cmd {
        self.interspersed = false;
        self
    }

    /// Reads its words itself.
    pub(crate) const fn raw(mut self) -> Cmd {
        self.raw = true;
        self
    }

    pub(crate) const fn category(mut self, category: Category) -> Cmd {
        self.category = category;
        self
    }

    /// The same command under another name and parent.
    pub(crate) const fn named(mut self, name: &'static str) -> Cmd {
        self.name = name;
        self.aliases = &[];
        self
    }

    /// The subcommand of this group called `name`.
    pub(crate) fn find(&self, name: &str) -> Option<&'static Cmd> {
        self.subs.iter().find(|c| c.name == name || c.aliases.contains(&name)).copied()
    }

    /// All flags of the command.
    pub(crate) fn all_flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().flat_map(|group| group.iter())
    }
}

/// Where the root's help lists a command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Category {
    /// Among the most used.
    Common,
    /// A group.
    Management,
    /// A group of the swarm.
    Swarm,
    Plain,
    /// Barque's own, beyond Docker's.
    Own,
    Hidden,
}

/// How many operands a command takes.
#[derive(Clone, Copy)]
pub(crate) enum Args {
    Any,
    None,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
}

/// The type of a flag's value, with the name the help shows.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Bool,
    Str,
    Int,
    Uint16,
    Uint,
    /// `1m30s`, as Go writes durations.
    Duration,
    /// `512m`; a negative number only where `memory-swap` allows it.
    Bytes,
    SwapBytes,
    /// A number of CPUs with up to nine decimals.
    Cpus,
    /// May be given several times.
    List(Check),
    /// `key=value`, several times.
    Map(Check),
    /// May be given several times, and each may hold several, separated by commas (CSV).
    Strings,
    /// A value whose form the command checks, shown under this type name.
    Custom(&'static str, Check),
}

/// Looks at one value: an error is the text after `invalid argument "…" for "…" flag: `.
pub(crate) type Check = fn(&str) -> Result<(), String>;

impl Kind {
    /// The name of the type in the help.
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Kind::Bool => "",
            Kind::Str => "string",
            Kind::Int => "int",
            Kind::Uint16 => "uint16",
            Kind::Uint => "uint",
            Kind::Duration => "duration",
            Kind::Bytes | Kind::SwapBytes => "bytes",
            Kind::Cpus => "decimal",
            Kind::List(_) => "list",
            Kind::Map(_) => "map",
            Kind::Strings => "strings",
            Kind::Custom(name, _) => name,
        }
    }
}

/// One flag of a command.
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    /// The one-letter form, or NUL.
    pub(crate) letter: char,
    pub(crate) kind: Kind,
    /// The default as the help shows it; empty: not shown.
    pub(crate) default: &'static str,
    pub(crate) usage: &'static str,
    pub(crate) hidden: bool,
    /// The text printed when it is used, after `Flag --x has been deprecated, `.
    pub(crate) deprecated: &'static str,
    /// The oldest API version that knows it.
    pub(crate) since: &'static str,
}

/// A flag without a letter or default.
pub(crate) const fn flag(name: &'static str, kind: Kind, usage: &'static str) -> Flag {
    Flag { name, letter: '\0', kind, default: "", usage, hidden: false, deprecated: "", since: "" }
}

impl Flag {
    pub(crate) const fn letter(mut self, letter: char) -> Flag {
        self.letter = letter;
        self
    }

    pub(crate) const fn default(mut self, default: &'static str) -> Flag {
        self.default = default;
        self
    }

    pub(crate) const fn hidden(mut self) -> Flag {
        self.hidden = true;
        self
    }

    pub(crate) const fn deprecated(mut self, text: &'static str) -> Flag {
        self.deprecated = text;
        self.hidden = true;
        self
    }

    pub(crate) const fn since(mut self, version: &'static str) -> Flag {
        self.since = version;
        self
    }

    /// `-p, --publish`, as errors name it.
    pub(crate) fn label(&self) -> String {
        match self.letter {
            '\0' => format!("--{}", self.name),
            letter => format!("-{letter}, --{}", self.name),
        }
    }
}
