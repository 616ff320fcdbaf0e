// A provider of OpenID Connect on loopback. It prints its issuer, then answers each line of JSON on
// its standard input with one: a token that a client is given, or where a browser ends up.
import { createInterface } from "node:readline";
import { createServer } from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [packages, page] = process.argv.slice(2);
const entry = join(packages, "node_modules/oidc-provider/lib/index.js");
const { default: Provider } = await import(pathToFileURL(entry));

const client = { client_id: "client", client_secret: "a secret of thirty-two characters" };
const account = (id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: true }),
});

const server = createServer((request, response) => provider.callback()(request, response));
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
    clients: [{
        ...client,
        grant_types: ["authorization_code", "client_credentials"],
        redirect_uris: [page],
    }],
    claims: { openid: ["sub"], email: ["email", "email_verified"] },
    conformIdTokenClaims: false,
    cookies: { keys: ["of this test"] },
    findAccount: (_, id) => account(id),
    features: {
        clientCredentials: { enabled: true },
        devInteractions: { enabled: true },
        introspection: { enabled: true },
        resourceIndicators: {
            enabled: true,
            defaultResource: () => undefined,
            getResourceServerInfo: (_, audience) => ({
                audience,
                accessTokenFormat: "jwt",
                accessTokenTTL: 300,
                scope: "",
            }),
        },
    },
});

/** A token for the client itself: a signed one for `resource`, else an opaque one. */
async function token({ resource }) {
    const form = new URLSearchParams({ grant_type: "client_credentials" });
    if (resource) form.set("resource", resource);
    const encoded = Object.values(client).map(encodeURIComponent).join(":");
    const authorization = `Basic ${Buffer.from(encoded).toString("base64")}`;
    const answer = await fetch(`${issuer}/token`, {
        method: "POST",
        headers: { authorization },
        body: form,
    });
    return (await answer.json()).access_token;
}

/** Where a browser ends up that goes to `url` and says it is `who`, and to agree. */
async function visit({ url, who }) {
    const cookies = new Map();
    let body;
    for (let step = 0; step < 20; step += 1) {
        const cookie = [...cookies].map((pair) => pair.join("=")).join("; ");
        const method = body ? "POST" : "GET";
        const answer = await fetch(url, { method, body, headers: { cookie }, redirect: "manual" });
        for (const set of answer.headers.getSetCookie()) {
            const [name, value] = set.split(";")[0].split("=");
            cookies.set(name, value);
        }
        body = undefined;
        const next = answer.headers.get("location");
        if (next) {
            url = new URL(next, url).href;
            if (url.startsWith(page)) return url;
            continue;
        }
        const form = await answer.text();
        const action = form.match(/action="([^"]+)"/)?.[1];
        const prompt = form.match(/name="prompt" value="([^"]+)"/)?.[1];
        if (!action || !prompt) throw new Error(`${answer.status} ${form}`);
        url = new URL(action, url).href;
        body = new URLSearchParams({ prompt, login: who, password: "any" });
    }
    throw new Error("it goes on and on");
}

const asked = { token, visit };
console.log(JSON.stringify(issuer));
for await (const line of createInterface({ input: process.stdin })) {
    const { ask, ...question } = JSON.parse(line);
    console.log(JSON.stringify(await asked[ask](question)));
}
process.exit(0);
