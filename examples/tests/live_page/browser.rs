//! [`Browser`]: Chromium without a window, told what to do by its DevTools protocol over a pipe.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::in_time;

/// What starts it: its program has its pipe where others have none, at 3 and 4.
const START: &str = "exec chromium-headless-shell --no-sandbox --disable-gpu --remote-debugging-pipe \
                     --user-data-dir=\"$PROFILE\" 3<&0 4>&1";

/// Ends with what is dropped.
pub(crate) struct Browser {
    _child: Child,
    _profile: tempfile::TempDir,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    sent: u64,
}

/// A page that is open.
pub(crate) struct Page {
    session: Value,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder");
        let mut start = Command::new("sh");
        start.args(["-c", START]).env("PROFILE", profile.path()).kill_on_drop(true);
        start.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = start.spawn().expect("there is a shell");
        let commands = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { _child: child, _profile: profile, commands, answers, sent: 0 }
    }

    pub(crate) async fn open(&mut self, url: &str) -> Page {
        let target = self.tell("Target.createTarget", json!({ "url": "about:blank" }), None).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.tell("Target.attachToTarget", attach, None).await["sessionId"].clone();
        let page = Page { session };
        let opened = self.tell("Page.navigate", json!({ "url": url }), Some(&page)).await;
        assert_eq!(opened["errorText"], Value::Null, "{url}");
        page
    }

    /// The text of an element, once it begins with this.
    pub(crate) async fn text_once(&mut self, page: &Page, element: &str, start: &str) -> String {
        self.text_when(page, element, &format!("text.startsWith({})", json!(start))).await
    }

    /// The text of an element, once it is another.
    pub(crate) async fn text_once_other(&mut self, page: &Page, element: &str, text: &str) -> String {
        self.text_when(page, element, &format!("text !== {}", json!(text))).await
    }

    /// Waits in the page, which knows when it changes.
    async fn text_when(&mut self, page: &Page, element: &str, condition: &str) -> String {
        let wait = format!(
            "new Promise(resolve => {{
                const look = () => {{
                    const text = document.querySelector({element})?.textContent ?? '';
                    if (text && {condition}) resolve(text);
                }};
                const everything = {{ subtree: true, childList: true, characterData: true }};
                new MutationObserver(look).observe(document, everything);
                look();
            }})",
            element = json!(element)
        );
        let evaluate = json!({ "expression": wait, "awaitPromise": true, "returnByValue": true });
        let answer = self.tell("Runtime.evaluate", evaluate, Some(page)).await;
        answer["result"]["value"].as_str().unwrap_or_else(|| panic!("no text: {answer}")).to_owned()
    }

    /// Sends a command and waits for its answer. What the browser tells of itself meanwhile is passed over.
    async fn tell(&mut self, method: &str, params: Value, page: Option<&Page>) -> Value {
        self.sent += 1;
        let mut command = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(Page { session }) = page {
            command["sessionId"] = session.clone();
        }
        let mut text = command.to_string().into_bytes();
        text.push(0);
        self.commands.write_all(&text).await.expect("the browser runs: `cargo xtask test` installs it");
        loop {
            let mut answer = Vec::new();
            in_time(self.answers.read_until(0, &mut answer)).await.expect("it answers");
            assert_eq!(answer.pop(), Some(0), "the browser runs: `cargo xtask test` installs it");
            let answer: Value = serde_json::from_slice(&answer).expect("it is JSON");
            if answer["id"] == self.sent {
                assert_eq!(answer["error"], Value::Null, "{method}");
                return answer["result"].clone();
            }
        }
    }
}
