//! The other half of the benchmark, a process that takes turns with this one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Failure;

/// The process; it ends when this is dropped.
pub struct Other {
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Other {
    /// Starts it. It waits for its case.
    pub fn start(program: &str, arguments: &[String]) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        let mut process = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let questions = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().ok_or("no pipe")?);
        Ok(Self { process, questions, answers })
    }

    /// Tells it a line.
    pub fn tell(&mut self, line: &str) -> Result<(), Failure> {
        Ok(writeln!(self.questions.as_ref().ok_or("no pipe")?, "{line}")?)
    }

    /// Has it do a step; the microseconds that an item took.
    pub fn time(&mut self, step: &str) -> Result<f64, Failure> {
        self.tell(step)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().map_err(|_| "reseal's half ended early".into())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.questions = None;
        if let Err(error) = self.process.wait() {
            eprintln!("compare: {error}");
        }
    }
}
