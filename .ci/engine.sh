# shellcheck shell=bash
# A scratch engine in a network namespace of its own, for the scripts beside this one, which source it and set `binary`.

# scratch WORD: `dir`, a directory, and `name` and `ns`, a namespace to be made; `down` at the end of the script.
scratch() {
  dir=$(mktemp -d "/tmp/barque-$1.XXXXXX")
  name=bq$1$$
  ns=/run/netns/$name
  trap down EXIT
}

# offline: makes the namespace with a loopback and no way out. `--dns 192.0.2.53` gives an engine a name server that
# refuses at once, where the machine's own could only be waited for.
offline() {
  ip netns add "$name"
  ip -n "$name" link set lo up
  ip -n "$name" addr add 192.0.2.53/32 dev lo
}

# inside COMMAND...: runs it in the namespace.
inside() { nsenter --net="$ns" "$@"; }

# b WORD...: the engine's client.
b() { inside "$binary" -H "unix://$dir/sock" "$@"; }

# engine OPTION...: starts it and waits until it answers; fails with its last words.
engine() {
  # Not by `inside`: its shell would be what is ended later.
  nsenter --net="$ns" setsid "$binary" daemon --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" \
    -H "unix://$dir/sock" "$@" > "$dir/daemon.log" 2>&1 < /dev/null &
  echo $! > "$dir/engine.pid"
  for _ in $(seq 300); do
    if curl -sf --unix-socket "$dir/sock" http://d/_ping > /dev/null; then return 0; fi
    sleep 0.1
  done
  echo "the engine does not answer:" >&2
  tail -20 "$dir/daemon.log" >&2
  return 1
}

# listens PORT: waits until something does in the namespace; fails after ten seconds.
listens() {
  for _ in $(seq 100); do
    if inside bash -c ": < /dev/tcp/127.0.0.1/$1" 2> /dev/null; then return 0; fi
    sleep 0.1
  done
  echo "nothing listens on port $1" >&2
  return 1
}

# stop: ends containers, which outlive the engine, then all whose process ids stand in files of `dir`.
stop() {
  local file pid
  if [ -S "$dir/sock" ]; then
    b ps -aq 2> /dev/null | while read -r id; do b rm -f -v "$id" > /dev/null 2>&1; done
  fi
  for file in "$dir"/pid "$dir"/*.pid "$dir"/registry*/pid; do
    [ -s "$file" ] || continue
    pid=$(cat "$file")
    kill "$pid" 2> /dev/null || continue
    for _ in $(seq 100); do
      kill -0 "$pid" 2> /dev/null || break
      sleep 0.1
    done
  done
}

down() {
  set +e
  stop
  ip netns del "$name" 2> /dev/null
  rm -rf "$dir" 2> /dev/null
}
