// Makes `context.http` before the program runs. The host sends one request after the other, and
// the program waits for each.
(function (send) {
  const { entries, fromEntries } = Object;
  const { parse, stringify } = JSON;
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
});
