//! Running programs: every command line is printed before it runs.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use crate::{Result, workspace};

/// The cargo that started this process, run in the workspace's root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root()).args(args);
    command
}

/// Runs a command with this process's own input and output.
pub(crate) fn run(command: &mut Command) -> Result {
    announce(command);
    let status = command.status().map_err(|error| cannot_start(command, &error))?;
    finish(command, status)
}

/// Runs a command and returns what it wrote to standard output; its errors are shown as they come.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let mut text = String::new();
    read_lines(command, |line| {
        text.push_str(line);
        text.push('\n');
    })?;
    Ok(text)
}

/// Runs a command and hands over each line of its standard output as it comes. Bytes that are not
/// UTF-8 are replaced, so that a test that prints rubbish does not hide the lines after it.
pub(crate) fn read_lines(command: &mut Command, mut line: impl FnMut(&str)) -> Result {
    announce(command);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| cannot_start(command, &error))?;
    let stdout = child.stdout.take().expect("standard output is piped");
    let mut reader = BufReader::new(stdout);
    let mut buffer = Vec::new();
    let read = loop {
        buffer.clear();
        match reader.read_until(b'\n', &mut buffer) {
            Ok(0) => break Ok(()),
            Ok(_) => line(String::from_utf8_lossy(&buffer).trim_end_matches(['\n', '\r'])),
            Err(error) => break Err(format!("failed to read from {}: {error}", describe(command))),
        }
    };
    let status =
        child.wait().map_err(|error| format!("failed to wait for {}: {error}", describe(command)))?;
    read?;
    finish(command, status)
}

/// Runs a command without a word and returns what it wrote; where it failed, its errors are part of ours.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| cannot_start(command, &error))?;
    finish(command, output.status).map_err(|message| {
        let errors = String::from_utf8_lossy(&output.stderr);
        if errors.trim().is_empty() { message } else { format!("{message}: {}", errors.trim()) }
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program answers to its name on this machine.
pub(crate) fn is_installed(program: &str, probe: &[&str]) -> bool {
    Command::new(program)
        .args(probe)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn announce(command: &Command) {
    eprintln!("$ {}", describe(command));
}

/// The command line as one would type it, with the variables that were set for it.
fn describe(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.display(), quote(value)));
        }
    }
    let program = Path::new(command.get_program());
    words.push(quote(program.file_name().unwrap_or(command.get_program())));
    words.extend(command.get_args().map(quote));
    words.join(" ")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.is_empty() || word.contains([' ', '"', '\'', '$', '*']) {
        format!("'{}'", word.replace('\'', "'\\''"))
    } else {
        word.into_owned()
    }
}

fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!("failed to start {}: {error}", describe(command))
}

fn finish(command: &Command, status: std::process::ExitStatus) -> Result {
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", describe(command))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/usr/bin/cargo");
        command.env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--no-deps"]);
        assert_eq!(describe(&command), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }

    #[test]
    fn a_program_that_fails_is_an_error_that_names_it() {
        let message = run(&mut Command::new("false")).unwrap_err();
        assert!(message.starts_with("false ended with exit status: 1"), "{message}");
    }

    #[test]
    fn what_a_quiet_program_says_of_its_failure_is_not_lost() {
        let message = output(Command::new("sh").args(["-c", "echo the reason >&2; exit 3"])).unwrap_err();
        assert!(message.contains("exit status: 3") && message.ends_with(": the reason"), "{message}");
    }

    #[test]
    fn a_program_that_is_missing_is_an_error_that_names_it() {
        let message = read(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(message.starts_with("failed to start no-such-program-here"), "{message}");
        assert!(!is_installed("no-such-program-here", &[]));
    }

    #[test]
    fn lines_that_are_not_utf8_do_not_hide_the_ones_after_them() {
        let mut lines = Vec::new();
        let mut command = Command::new("printf");
        command.arg("one\\n\\377two\\nthree");
        read_lines(&mut command, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "\u{fffd}two", "three"]);
    }
}
