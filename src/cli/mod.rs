//! The command line: one file per command.

/// Runs the program named by the arguments.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
