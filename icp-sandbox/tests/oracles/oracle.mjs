// Answers cases as the packages from npm do.
//
//   node oracle.mjs <folder of the packages> <jmespath|jsonata|schema>
//
// Reads an array of [program, input] and writes an array of what each ends in: {"value": ..},
// "nothing", or {"error": "compile" | "runtime"}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [folder, language] = process.argv.slice(2);
const require = createRequire(join(resolve(folder), "package.json"));

const languages = {
  jmespath() {
    const jmespath = require("jmespath");
    return {
      compile: (text) => jmespath.compile(text) && text,
      run: (text, input) => jmespath.search(input, text),
    };
  },

  jsonata() {
    const jsonata = require("jsonata");
    return {
      compile: (text) => jsonata(text),
      run: (expression, input) => expression.evaluate(input),
    };
  },

  schema() {
    const formats = require("ajv-formats");
    const newest = "https://json-schema.org/draft/2020-12/schema";
    const drafts = {
      "http://json-schema.org/draft-07/schema#": require("ajv").default,
      "https://json-schema.org/draft/2019-09/schema": require("ajv/dist/2019").default,
      [newest]: require("ajv/dist/2020").default,
    };
    const made = {};
    const ajv = (draft) => {
      made[draft] ??= formats.default(new drafts[draft]({ strict: false, logger: false }));
      return made[draft];
    };
    return {
      compile: (schema) => ajv(schema.$schema ?? newest).compile(schema),
      run: (validate, input) => validate(input),
    };
  },
};

function written(value) {
  const called = typeof value === "function" || value?._jsonata_lambda || value?._jsonata_function;
  if (value === undefined || called) return "nothing";
  return { value: JSON.parse(JSON.stringify(value)) };
}

// The same program comes several times in a row.
let last = [];

async function end({ compile, run }, program, input) {
  let compiled;
  try {
    const text = JSON.stringify(program);
    if (last[0] !== text) last = [text, compile(program)];
    compiled = last[1];
  } catch {
    return { error: "compile" };
  }
  try {
    return written(await run(compiled, input));
  } catch {
    return { error: "runtime" };
  }
}

const engine = languages[language]();
const ends = [];
for (const [program, input] of JSON.parse(readFileSync(0, "utf8"))) {
  ends.push(await end(engine, program, input));
}
process.stdout.write(JSON.stringify(ends));
