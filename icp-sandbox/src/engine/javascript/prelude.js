// Runs once in a fresh context, before the program: takes away what could make code from text
// or tell the time, and gives the function that runs the program.
(function (info, natives) {
  const { apply } = Reflect;
  const { defineProperty, entries, freeze, fromEntries, getPrototypeOf, values } = Object;
  const { parse, stringify } = JSON;
  const { log, encode, decode, random, lookUp, send } = natives;
  const { join } = Array.prototype;
  const now = info.now;

  const fixed = (target, name, value) =>
    defineProperty(target, name, { value, writable: true, enumerable: false, configurable: true });

  const Code = function Function() {
    throw new TypeError("a program cannot make code from text");
  };
  Code.prototype = getPrototypeOf(Code);
  for (const made of [function () {}, function* () {}, async function () {}, async function* () {}]) {
    defineProperty(getPrototypeOf(made), "constructor", {
      value: Code, writable: false, enumerable: false, configurable: false,
    });
  }
  fixed(globalThis, "Function", Code);
  for (const name of [
    "eval", "escape", "unescape", "SharedArrayBuffer", "Atomics", "performance", "queueMicrotask",
    "navigator", "gc", "InternalError",
  ]) {
    delete globalThis[name];
  }
  delete Error.prepareStackTrace;
  delete Error.stackTraceLimit;
  delete Error.captureStackTrace;

  const Clock = Date;
  const Still = function Date(...parts) {
    if (!new.target) return apply(Clock.prototype.toString, new Clock(now), []);
    return Reflect.construct(Clock, parts.length === 0 ? [now] : parts, new.target);
  };
  Still.prototype = Clock.prototype;
  defineProperty(Still, "length", { value: 7 });
  fixed(Still, "now", () => now);
  fixed(Still, "parse", Clock.parse);
  fixed(Still, "UTC", Clock.UTC);
  fixed(Clock.prototype, "constructor", Still);
  fixed(globalThis, "Date", Still);
  fixed(Math, "random", () => random());

  const show = (value) => {
    if (typeof value === "string") return value;
    try {
      if (value instanceof Error) return `${value}`;
      return stringify(value) ?? String(value);
    } catch {
      return "[unprintable]";
    }
  };
  const write = (...parts) => {
    for (let at = 0; at < parts.length; at++) parts[at] = show(parts[at]);
    log(apply(join, parts, [" "]));
  };
  const console = {};
  for (const name of ["debug", "error", "info", "log", "warn"]) fixed(console, name, write);
  fixed(globalThis, "console", freeze(console));

  const frozen = (value) => {
    if (typeof value === "object" && value !== null) values(value).forEach(frozen);
    return freeze(value);
  };
  const dropping = freeze({});
  let reason = "";
  // The fallback is what is given beyond the question.
  const finder = (reverse, length) => (...asked) => {
    while (asked.length > 2 && asked[asked.length - 1] === undefined) asked.length--;
    const found = lookUp(stringify(asked), reverse);
    return found === undefined ? asked[length] : parse(found);
  };
  const context = {
    ...info.context,
    drop(why) {
      reason = why === undefined ? "the program dropped the event" : String(why);
      return dropping;
    },
    base64: { encode: (text) => encode(String(text)), decode: (text) => decode(String(text)) },
    lookup: finder(false, 2),
    reverseLookup: finder(true, 3),
  };
  if (send) context.http = client();
  frozen(context);

  // The host sends one request after the other, and the program waits for each.
  function client() {
    const encoded = encodeURIComponent;
    const exchange = (method, url, body, options, binary) => {
      const { headers = {}, params = {}, timeout } = options ?? {};
      const query = entries(params)
        .filter(([, value]) => value !== undefined && value !== null)
        .map(([name, value]) => `${encoded(name)}=${encoded(value)}`)
        .join("&");
      let address = String(url);
      if (query) address += (address.includes("?") ? "&" : "?") + query;
      const fields = entries(headers).map(([name, value]) => [name, String(value)]);
      if (body !== undefined && typeof body !== "string") {
        body = stringify(body);
        if (!fields.some(([name]) => name.toLowerCase() === "content-type")) {
          fields.push(["content-type", "application/json"]);
        }
      }
      const request = { method, url: address, headers: fields, timeout_ms: timeout };
      const [head, text] = send(stringify(request), body, binary);
      const { status, headers: received, truncated } = parse(head);
      return { status, headers: fromEntries(received), truncated, text };
    };
    const request = async (method, url, body, options) => {
      const { text, ...head } = exchange(method, url, body, options, false);
      const ok = head.status >= 200 && head.status < 300;
      return { ...head, ok, body: text, json: () => parse(text) };
    };
    return {
      get: (url, options) => request("GET", url, undefined, options),
      delete: (url, options) => request("DELETE", url, undefined, options),
      post: (url, body, options) => request("POST", url, body, options),
      put: (url, body, options) => request("PUT", url, body, options),
      patch: (url, body, options) => request("PATCH", url, body, options),
      getBuffer: async (url, options) => exchange("GET", url, undefined, options, true).text,
    };
  }

  // The program is a body that ends in a hand-over: it gets a class to wrap what its own
  // `transform` answers, and answers the class itself where it has none.
  const enter = async (program, payload) => {
    class Transformed {
      constructor(value) {
        this.value = value;
      }
    }
    const answer = await apply(program, Transformed, [payload, context]);
    if (answer === Transformed) return ["absent"];
    const called = answer instanceof Transformed;
    const value = called ? answer.value : answer;
    if (value === dropping) return ["dropped", reason];
    if (!called && (value === undefined || value === null)) {
      return ["dropped", "the program returned nothing"];
    }
    return ["value", value];
  };
  return { context, enter };
});
