//! Configuration: file, environment and flags, in rising order of precedence.
