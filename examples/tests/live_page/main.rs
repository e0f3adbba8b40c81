//! The page that changes by itself, as its users start it: a client that reads what a browser would, and a browser.

#[cfg(feature = "browser")]
mod browser;

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};
use watermill_testkit::patience;

/// The example, which goes with what is dropped, and its `host:port`.
async fn start() -> (Child, String) {
    let mut example = Command::new(env!("CARGO_BIN_EXE_live_page"));
    example.env("LISTEN", "127.0.0.1:0").stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = example.spawn().expect("it starts");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    in_time(stdout.read_line(&mut line)).await.expect("it is text");
    let address = line.trim().strip_prefix("listening on http://").expect("it says where").to_owned();
    (child, address)
}

async fn get(address: &str, path: &str) -> BufReader<TcpStream> {
    let mut connection = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("it is taken");
    BufReader::new(connection)
}

async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(patience(), future).await.expect("it happens in time")
}

/// The prices of tea, as they come.
async fn tea(events: &mut BufReader<TcpStream>) -> u64 {
    loop {
        let mut line = String::new();
        in_time(events.read_line(&mut line)).await.expect("it is text");
        let Some(data) = line.trim().strip_prefix("data: ") else { continue };
        let price: serde_json::Value = serde_json::from_str(data).expect("it is JSON");
        if price["article"] == "tea" {
            return price["cents"].as_u64().expect("a number");
        }
    }
}

#[tokio::test]
async fn the_page_listens_to_a_stream_on_which_prices_change() {
    let (mut example, address) = start().await;
    let mut page = String::new();
    in_time(get(&address, "/").await.read_to_string(&mut page)).await.expect("it is text");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains(r#"new EventSource("/prices")"#), "{page}");

    let mut browsers = [get(&address, "/prices").await, get(&address, "/prices").await];
    for browser in &mut browsers {
        let first = tea(browser).await;
        assert_ne!(tea(browser).await, first, "it changes");
    }

    // Those who look do not keep it from stopping.
    let pid = example.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.expect("there is a kill").success());
    assert!(in_time(example.wait()).await.expect("it is our child").success());
    let mut rest = String::new();
    in_time(browsers[0].read_to_string(&mut rest)).await.expect("the stream ends in order");
}

#[cfg(feature = "browser")]
#[tokio::test]
async fn a_browser_shows_the_prices_and_how_they_change() {
    let (_example, address) = start().await;
    let mut browser = browser::Browser::start().await;
    let page = browser.open(&format!("http://{address}/")).await;
    let first = browser.text_once(&page, "#price-tea", "tea: ").await;
    let then = browser.text_once_other(&page, "#price-tea", &first).await;
    assert!(then.starts_with("tea: ") && then != first, "{first}, then {then}");
    assert_eq!(browser.text_once(&page, "#state", "live").await, "live");
    assert!(browser.text_once(&page, "#price-cake", "cake: ").await.starts_with("cake: "));
}
