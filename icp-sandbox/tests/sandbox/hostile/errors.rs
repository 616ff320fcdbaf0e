//! What is thrown as a weapon: reading an error runs code of the program.

use super::{HELD, Street};
use crate::fixture::function;

#[tokio::test]
async fn errors_are_read_within_bounds() {
    let codes = &["!runtime", "!timeout", "!timeout_hard", "!memory", "!stack"];
    let define = |name: &str, getter: &str| {
        format!(
            "const e = new Error('x'); Object.defineProperty(e, '{name}', {{ get() {{ {getter} }} }}); throw e"
        )
    };
    let mut cases = vec![
        ("long message", "throw new Error('x'.repeat(5e6))".to_owned()),
        ("wide message", "throw new Error('\\u{1f600}'.repeat(1e6))".to_owned()),
        ("long name", "const e = new Error('x'); e.name = 'n'.repeat(5e6); throw e".to_owned()),
        ("message with toString", "const e = new Error('x'); e.message = { toString() { for (;;) {} } }; throw e".to_owned()),
        ("name that throws", "const e = new Error('x'); e.name = { toString() { throw e } }; throw e".to_owned()),
        ("stack of many lines", "const e = new Error('x'); e.stack = '    at x (transform.js:1:1)\\n'.repeat(1e5); throw e".to_owned()),
        ("stack of one long line", "const e = new Error('x'); e.stack = '    at ' + 'x'.repeat(5e6) + ' (transform.js:1:1)'; throw e".to_owned()),
        ("stack of large numbers", "const e = new Error('x'); e.stack = '    at x (transform.js:99999999999999999999:-1)\\n    at y (transform.js:4294967295:4294967295)'; throw e".to_owned()),
        ("stack that is no text", "const e = new Error('x'); e.stack = 7; throw e".to_owned()),
        ("thrown cycle", "const o = {}; o.o = o; throw o".to_owned()),
        ("thrown toJSON", "throw { toJSON() { for (;;) {} } }".to_owned()),
        ("thrown getter", "throw { get a() { for (;;) {} } }".to_owned()),
        ("thrown again", "throw { toJSON() { throw this } }".to_owned()),
        ("thrown symbol", "throw Symbol('x')".to_owned()),
        ("thrown function", "throw () => 1".to_owned()),
        ("thrown integer", "throw 1n".to_owned()),
        ("thrown undefined", "throw undefined".to_owned()),
        ("thrown text", "throw 'x'.repeat(5e6)".to_owned()),
        ("thrown lone surrogate", "throw '\\ud800'".to_owned()),
        ("lone surrogate in message", "throw new Error('\\ud800')".to_owned()),
        ("prepareStackTrace", "Error.prepareStackTrace = () => { for (;;) {} }; throw new Error('x')".to_owned()),
        ("prepareStackTrace getter", "Object.defineProperty(Error, 'prepareStackTrace', { get() { for (;;) {} } }); null.x".to_owned()),
        ("stackTraceLimit", "Error.stackTraceLimit = 1e9; throw new Error('x')".to_owned()),
        ("stackTraceLimit getter", "Object.defineProperty(Error, 'stackTraceLimit', { get() { for (;;) {} } }); null.x".to_owned()),
        ("own class", "class E extends Error { get message() { for (;;) {} } } throw new E()".to_owned()),
        ("prototype", "Object.defineProperty(Error.prototype, 'message', { get() { for (;;) {} } }); throw new Error()".to_owned()),
        ("replaced conversion", "String.prototype.toString = Error.prototype.toString = () => { for (;;) {} }; throw new Error('x')".to_owned()),
        ("causes", "let e = new Error('x'); for (let i = 0; i < 1e4; i++) e = new Error('x', { cause: e }); throw e".to_owned()),
        ("many at once", "throw new AggregateError(Array(1e5).fill(new Error('x')), 'x')".to_owned()),
        ("rejection", "return Promise.reject({ get message() { for (;;) {} } })".to_owned()),
        ("rejection beside", "Promise.reject(new Error('beside')); throw new Error('x')".to_owned()),
        ("reason to drop", "return context.drop({ toString() { throw new Error('x') } })".to_owned()),
        ("stopped, and thrown", "try { for (;;) {} } finally { throw new Error('x') }".to_owned()),
    ];
    for name in ["message", "name", "stack"] {
        cases.push((name, define(name, "for (;;) {}")));
        cases.push((name, define(name, "throw e")));
        cases.push((name, define(name, "return e")));
        cases.push((name, define(name, "const f = () => 1 + f(); return f()")));
    }
    let street = Street::new().await;
    for (name, body) in cases {
        let met = street.meet(name, &function(&body), "{}", codes).await;
        assert!(met.taken.held <= HELD, "{name}: {:?}", met.taken);
        let error = met.found.unwrap_err();
        assert!(error.message.len() <= 1_024, "{name}");
        let Some(origin) = error.origin else { continue };
        assert!(origin.frames.len() <= 10, "{name}");
        for frame in origin.frames {
            assert!(frame.function.unwrap_or_default().len() <= 128, "{name}");
            assert!(frame.at.line <= 3, "{name}: no line of the program");
        }
        assert!(origin.excerpt.unwrap_or_default().len() <= 256, "{name}");
    }
}

/// What a program cannot find here is what others escape through.
#[tokio::test]
async fn what_is_not_there_is_a_plain_error() {
    let cases = [
        ("proxy", "return new Proxy({}, { get() { for (;;) {} } })"),
        ("typed array", "return new Uint8Array(1e9)"),
        ("buffer", "return new ArrayBuffer(1e9)"),
        ("shared buffer", "return new SharedArrayBuffer(1e9)"),
        ("waiting", "return Atomics.wait(1)"),
        ("weak reference", "return new WeakRef({}).deref()"),
        ("finalizer", "new FinalizationRegistry(() => { for (;;) {} })"),
        ("timer", "setTimeout(() => 1, 1e9)"),
        ("worker", "new Worker('x')"),
        ("request", "return fetch('http://127.0.0.1')"),
        ("require", "return require('fs')"),
        ("process", "return process.env"),
        ("system", "return std.getenv('PATH') ?? os.exec(['ls'])"),
        ("script", "return loadScript('/etc/passwd')"),
        ("caller", "return (function f() { return f.caller })()"),
        ("callee", "return (function () { return arguments.callee })()"),
        ("realm", "return new ShadowRealm().evaluate('1')"),
        ("garbage collector", "gc()"),
        ("module", "return import('fs')"),
        ("meta", "return globalThis.import.meta"),
    ];
    Street::new().await.meet_all(&["!runtime"], &cases).await;
}
