//! The examples of packages are shops: servers that publish each order.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use icp_testkit::receiver::Receiver;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::library;

/// Runs an example as a server until it has delivered an order; answers what was received.
pub(crate) fn sold(mut example: Command) -> Value {
    let runtime = Runtime::new().unwrap();
    let receiver = runtime.block_on(Receiver::start());
    let folder = tempfile::tempdir().unwrap();
    example.arg(receiver.url("/hook")).current_dir(folder.path());
    example.env("ICP_LIBRARY", library()).env("DEVELOPMENT", "1").env_remove("PORT");
    let mut process = example.stdout(Stdio::piped()).spawn().unwrap();
    let mut port = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let answer = |body: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port.trim().parse().unwrap())).unwrap();
        let length = body.len();
        let head = format!("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: {length}");
        let rest = "content-type: application/json\r\nconnection: close";
        write!(stream, "{head}\r\n{rest}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let refused = answer("{");
    assert!(refused.split(' ').nth(1) == Some("400"), "{refused}");
    let accepted = answer("{\"number\":17}");
    assert!(accepted.split(' ').nth(1) == Some("202") && accepted.contains("evt_"), "{accepted}");
    let received = runtime.block_on(receiver.wait_for_to("/hook", 1));
    let ended = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(ended.success());
    assert!(process.wait().unwrap().success(), "{example:?} ends by itself");
    serde_json::from_slice(&received[0].body).unwrap()
}
