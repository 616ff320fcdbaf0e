use std::io::Write as _;
use std::process::{Command, Stdio};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn request(headers: Vec<(String, String)>, body: &[u8]) -> Preview {
    Preview {
        method: "POST".to_owned(),
        url: "https://example.com/a?b=%20[1]&c='$(id)'".to_owned(),
        headers,
        body: Bytes::copy_from_slice(body),
    }
}

/// Tells its arguments, then what comes through its pipe.
const CURL: &str = r#"curl() {
  for word; do printf '%s\0' "$word"; before=$last; last=$word; done
  if [ "$before $last" = '--data-binary @-' ]; then cat; fi
}"#;

/// Runs a command with a `curl` that sends nothing.
fn run(command: &str) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut shell = Command::new("sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A shell reads a command to its end before it begins with it, so nothing waits here.
    write!(shell.stdin.take().unwrap(), "{CURL}\n{command}\n").unwrap();
    let output = shell.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}\n{command}");
    let mut words: Vec<Vec<u8>> =
        output.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    // What came through the pipe may itself hold zeros, so it is cut off by the words before it.
    let last = words.iter().position(|word| word == b"@-").unwrap_or(words.len() - 2);
    words.truncate(last + 1);
    let start: usize = words.iter().map(|word| word.len() + 1).sum();
    (words, output.stdout[start..].to_vec())
}

/// What `curl` would send: the header fields and the body.
fn sent(preview: &Preview) -> (Vec<String>, Vec<u8>) {
    let (words, piped) = run(&command(preview));
    let text = |word: &Vec<u8>| String::from_utf8(word.clone()).unwrap();
    let after = |name: &str| {
        let named = words.windows(2).filter(|pair| pair[0] == name.as_bytes());
        named.map(|pair| pair[1].clone()).collect::<Vec<_>>()
    };
    assert_eq!(after("--request"), [b"POST".to_vec()]);
    assert_eq!(after("--url"), [preview.url.clone().into_bytes()]);
    let body = after("--data-raw").pop().unwrap_or(piped);
    (after("--header").iter().map(text).collect(), body)
}

#[test]
fn a_command_is_one_that_people_can_read() {
    let headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("authorization".to_owned(), "***".to_owned()),
    ];
    let preview = Preview {
        url: "https://example.com/hook".to_owned(),
        ..request(headers, br#"{"it's":1}"#)
    };
    let shown = CurlCommand::new(&preview, Vec::new());
    assert_eq!(
        shown.command,
        r#"curl --globoff --request POST \
  --url https://example.com/hook \
  --header 'content-type: application/json' \
  --header 'authorization: ***' \
  --data-raw '{"it'\''s":1}'"#
    );
    assert_eq!(shown.notes, ["secrets are shown as ***; put them in before use"]);
}

#[test]
fn hostile_bodies_arrive_as_they_are() {
    let long = "€'x".repeat(MAX_ARGUMENT / 4);
    for body in [
        b"".as_slice(),
        b"@/etc/passwd",
        b"-X",
        b"'; touch /tmp/owned; '",
        b"$(id) `id` \\n %s !! # \"",
        b"two\nlines\n\n",
        b"tab\tand return\r\n",
        b"\x1b[201~\nid\n",
        b"nul \0 in it",
        b"\xff\xfe not utf-8 \\0101 \\c",
        "c1 \u{9b}2J".as_bytes(),
        long.as_bytes(),
    ] {
        assert_eq!(sent(&request(Vec::new(), body)).1, body);
    }
}

#[test]
fn no_control_character_reaches_a_terminal() {
    let shown = command(&request(Vec::new(), b"\x1b[201~\r\x07\x9b\x7f"));
    assert!(shown.chars().all(|c| !c.is_control() || c == '\n'), "{shown:?}");
}

#[test]
fn a_header_without_a_value_is_sent() {
    let (headers, _) = sent(&request(vec![("x-empty".into(), String::new())], b"x"));
    assert_eq!(headers, ["x-empty;"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_quoted(text in "[^\0]{0,200}", value in "[ -~]{1,60}") {
        let preview = request(vec![("x-any".to_owned(), value.clone())], text.as_bytes());
        let (headers, body) = sent(&preview);
        prop_assert_eq!(headers, [format!("x-any: {value}")]);
        prop_assert_eq!(body, text.into_bytes());
    }

    #[test]
    fn any_bytes_come_through(body in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(sent(&request(Vec::new(), &body)).1, body);
    }
}
