//! The exported functions as a program in C sees them, and such programs.

#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::HashMap;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;

use icp_ffi::abi::*;
use icp_ffi::item::{HEADER, record_len};
use icp_ffi::op::Op;
use icp_ffi::reference::ABI_VERSION;
use serde_json::{Value, json};

/// A record of a queue.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) tag: u64,
    pub(crate) kind: u32,
    pub(crate) status: i32,
    pub(crate) body: Value,
}

/// An engine and a queue, freed in this order.
pub(crate) struct Embedded {
    pub(crate) engine: *mut EngineHandle,
    pub(crate) queue: *mut QueueHandle,
    pub(crate) seen: Vec<Record>,
    next: u64,
}

// The ABI lets every function be called from any thread.
unsafe impl Send for Embedded {}
unsafe impl Sync for Embedded {}

/// The status and the document of an error, which is freed.
pub(crate) fn told(error: *mut ErrorDocument) -> (i32, Value) {
    unsafe {
        let code = icp_error_code(error);
        let json = match icp_error_json(error) {
            json if json.is_null() => Value::Null,
            json => serde_json::from_slice(CStr::from_ptr(json).to_bytes()).unwrap(),
        };
        icp_error_free(error);
        (code, json)
    }
}

pub(crate) fn new_engine(config: &str) -> Result<*mut EngineHandle, (i32, Value)> {
    let (mut engine, mut error) = (ptr::null_mut(), ptr::null_mut());
    let status = unsafe {
        icp_engine_new(ABI_VERSION, config.as_ptr(), config.len(), &mut engine, &mut error)
    };
    if status == 0 { Ok(engine) } else { Err(told(error)) }
}

pub(crate) fn new_queue(engine: *mut EngineHandle) -> *mut QueueHandle {
    let mut queue = ptr::null_mut();
    let status = unsafe { icp_queue_new(engine, 0, &mut queue, ptr::null_mut()) };
    assert_eq!(status, 0);
    queue
}

impl Embedded {
    /// An engine that is not started.
    pub(crate) fn fresh(config: &Value) -> Self {
        let engine = new_engine(&config.to_string()).unwrap();
        Self { engine, queue: new_queue(engine), seen: Vec::new(), next: 1 }
    }

    /// A started engine on a store in memory, with the organization `acme`.
    pub(crate) fn started() -> Self {
        Self::started_with(&json!({ "store": "memory:", "allow_loopback": true }))
    }

    pub(crate) fn started_with(config: &Value) -> Self {
        let mut embedded = Self::fresh(config);
        assert_eq!(embedded.ask(Op::Start, &json!({})).unwrap(), Value::Null);
        let acme = json!({ "kind": "organization", "org": "acme", "document": { "spec": {} } });
        embedded.ask(Op::ResourcePut, &acme).unwrap();
        embedded
    }

    pub(crate) fn submit(&mut self, op: u32, body: &[u8]) -> Result<u64, (i32, Value)> {
        let tag = self.next;
        self.next += 1;
        let mut error = ptr::null_mut();
        let status = unsafe {
            icp_submit(self.engine, self.queue, op, tag, body.as_ptr(), body.len(), &mut error)
        };
        if status == 0 { Ok(tag) } else { Err(told(error)) }
    }

    /// Drains once; what came is in `seen`.
    pub(crate) fn drain(&mut self, timeout_ms: i64) -> i64 {
        let mut buffer = vec![0_u8; 1 << 16];
        let mut needed = 0;
        loop {
            let (at, cap) = (buffer.as_mut_ptr(), buffer.len());
            let bytes = unsafe { icp_queue_drain(self.queue, at, cap, timeout_ms, &mut needed) };
            if bytes == 0 && needed > 0 {
                buffer.resize(needed, 0);
                continue;
            }
            if bytes > 0 {
                self.seen.extend(records(&buffer[..usize::try_from(bytes).unwrap()]));
            }
            return bytes;
        }
    }

    /// The first record that is wanted, with all others kept.
    pub(crate) fn wait(&mut self, wanted: impl Fn(&Record) -> bool) -> Record {
        loop {
            if let Some(index) = self.seen.iter().position(&wanted) {
                return self.seen.remove(index);
            }
            assert!(self.drain(30_000) > 0, "nothing came in half a minute: {:?}", self.seen);
        }
    }

    pub(crate) fn completion(&mut self, tag: u64) -> Result<Value, (i32, Value)> {
        let record = self.wait(|record| record.kind == 1 && record.tag == tag);
        if record.status == 0 { Ok(record.body) } else { Err((record.status, record.body)) }
    }

    /// Submits, and waits for the end.
    pub(crate) fn ask(&mut self, op: Op, body: &Value) -> Result<Value, (i32, Value)> {
        let tag = self.submit(op.number(), body.to_string().as_bytes())?;
        self.completion(tag)
    }

    /// Makes an integration for all events.
    pub(crate) fn integration(&mut self, id: &str, spec: &Value) {
        let body = json!({
            "kind": "integration", "org": "acme", "id": id, "document": { "spec": spec },
        });
        self.ask(Op::ResourcePut, &body).unwrap();
    }

    pub(crate) fn publish(&mut self, data: &Value) -> Value {
        let event = json!({ "org": "acme", "type": "order.paid", "data": data });
        self.ask(Op::Publish, &event).unwrap()
    }

    /// Answers a request, which waits for it.
    pub(crate) fn respond(&self, request: u64, status: i32, body: &str) {
        let (data, size) = (body.as_ptr(), body.len());
        assert_eq!(unsafe { icp_respond(self.engine, request, status, data, size) }, 0);
    }

    /// The deliveries of an event when all have ended.
    pub(crate) fn ended(&mut self, event: &Value) -> Vec<Value> {
        let wait = json!({ "org": "acme", "event": event["id"], "timeout_ms": 20_000 });
        let found = self.ask(Op::DeliveryWait, &wait).unwrap();
        found["items"].as_array().unwrap().clone()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        unsafe {
            icp_engine_free(self.engine);
            icp_queue_free(self.queue);
        }
    }
}

pub(crate) fn records(bytes: &[u8]) -> Vec<Record> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let field = |from: usize| <[u8; 4]>::try_from(&bytes[at + from..at + from + 4]).unwrap();
        let len = u32::from_ne_bytes(field(16)) as usize;
        let body = &bytes[at + HEADER..at + HEADER + len];
        found.push(Record {
            tag: u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap()),
            kind: u32::from_ne_bytes(field(8)),
            status: i32::from_ne_bytes(field(12)),
            body: serde_json::from_slice(body)
                .unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned().into()),
        });
        at += record_len(len);
    }
    assert_eq!(at, bytes.len(), "only whole records are written");
    found
}

/// How often each tag completed.
pub(crate) fn completions(records: &[Record]) -> HashMap<u64, usize> {
    let mut count = HashMap::new();
    for record in records.iter().filter(|record| record.kind == 1) {
        *count.entry(record.tag).or_default() += 1;
    }
    count
}

/// The folder of the shared library that cargo built beside this test.
fn libraries() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

/// Compiles a program of `tests/c`; warnings are errors. The library is put beside it by its
/// soname.
pub(crate) fn compiled(name: &str, flags: &[&str], folder: &Path) -> PathBuf {
    let library = libraries().join("libicp_ffi.so");
    std::os::unix::fs::symlink(library, folder.join("libicp.so.1")).unwrap();
    let (source, program) = (Path::new(env!("CARGO_MANIFEST_DIR")), folder.join(name));
    let built = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-I"])
        .args([source.join("include"), source.join(format!("tests/c/{name}.c"))])
        .args(flags)
        .arg(format!("-L{}", libraries().display()))
        .args(["-licp_ffi", "-o"])
        .arg(&program)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    program
}
