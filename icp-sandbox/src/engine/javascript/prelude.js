// Runs once in a fresh context, before there is a call: takes away what could make code from text
// or tell the time, and gives the function that begins the call.
(function (natives) {
  const { apply } = Reflect;
  const { defineProperty, freeze, getPrototypeOf, values } = Object;
  const { parse, stringify } = JSON;
  const { log, encode, decode, random, lookUp, send } = natives;
  const { join } = Array.prototype;
  let now = 0;

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
  const tools = {
    drop(why) {
      reason = why === undefined ? "the program dropped the event" : String(why);
      return dropping;
    },
    base64: { encode: (text) => encode(String(text)), decode: (text) => decode(String(text)) },
    lookup: finder(false, 2),
    reverseLookup: finder(true, 3),
  };

  // The program is a body that ends in a hand-over: it gets a class to wrap what its own
  // `transform` answers, and answers the class itself where it has none.
  class Transformed {
    constructor(value) {
      this.value = value;
    }
  }
  const enter = async (program, payload, context) => {
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
  // What the event is, and what makes the client of a program that may send.
  return (info, client) => {
    now = info.now;
    const context = { ...info.context, ...tools };
    if (client) context.http = client(send);
    return [frozen(context), enter];
  };
});
