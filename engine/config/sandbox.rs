//! [`Sandbox`]: the rights that a run keeps.

/// The rights that a run keeps once its input is open. They concern the whole process, so a program
/// that embeds the library must ask for a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// All that it has.
    #[default]
    Off,
    /// Only those that it needs.
    On {
        /// The user to become, as the user wrote it: `USER`, `USER:GROUP`, or numbers. `None`: the
        /// one that suits the output.
        user: Option<String>,
    },
}
