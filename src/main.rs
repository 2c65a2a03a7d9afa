//! The `hearken` program: everything it does lives in the library, under `cli`.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    hearken::cli::main()
}
