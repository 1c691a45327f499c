//! What the commands print, character for character: `tests/cli/*`. `TRYCMD=overwrite cargo test --test cli` writes the
//! files anew.

#[test]
fn command_line() {
    trycmd::TestCases::new()
        // A width that does not depend on the terminal, and nothing of the user's AWS configuration.
        .env("COLUMNS", "100")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .case("tests/cli/*.trycmd")
        .case("tests/cli/*.toml");
}
