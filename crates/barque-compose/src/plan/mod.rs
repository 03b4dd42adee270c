//! [`Project`](crate::file::project::Project) × [`Observed`](observed::Observed) → steps, without doing anything.

pub mod api_socket;
pub mod diff;
pub mod images;
pub mod labels;
pub mod left_out;
pub mod observed;
pub mod reconcile;
mod starts;
pub mod step;
pub mod text;
