// Renders /openapi.json: every operation with its examples, and a form to send it.

const make = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children.filter((child) => child != null));
  return node;
};

const json = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

let spec;

const resolved = (schema) => {
  while (schema?.$ref) schema = schema.$ref.split("/").slice(1).reduce((at, key) => at[key], spec);
  return schema ?? {};
};

// An example is the schema's own, or is put together from those of its fields.
const example = (schema, depth = 0) => {
  schema = resolved(schema);
  if (schema.examples?.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  const option = (schema.anyOf ?? schema.oneOf)?.find((each) => each.type !== "null");
  if (option) return example(option, depth);
  if (schema.enum) return schema.enum[0];
  if (schema.const !== undefined) return schema.const;
  if (depth > 6) return null;
  if (schema.properties) {
    const entries = Object.entries(schema.properties);
    return Object.fromEntries(entries.map(([name, each]) => [name, example(each, depth + 1)]));
  }
  return { array: [], object: {}, integer: 0, number: 0, boolean: false, string: "" }[schema.type] ?? null;
};

const parameters = (operation) => {
  const list = operation.parameters ?? [];
  if (!list.length) return null;
  const rows = list.map((each) => {
    const input = make("input", { name: each.name, size: 28 });
    return make("tr", {}, make("td", {}, make("code", { textContent: each.name })),
      make("td", { textContent: each.in }), make("td", {}, input),
      make("td", { textContent: each.description ?? resolved(each.schema).description ?? "" }));
  });
  return make("table", {}, ...rows);
};

const responses = (operation) => Object.entries(operation.responses ?? {}).map(([status, response]) => {
  const body = Object.values(response.content ?? {})[0];
  const shown = body && json(body.example ?? example(body.schema));
  return make("details", {}, make("summary", { textContent: `${status} ${response.description}` }),
    shown ? make("pre", { textContent: shown }) : null);
});

const send = async (method, path, operation, form, body, output) => {
  const headers = {};
  const query = new URLSearchParams();
  for (const each of operation.parameters ?? []) {
    const { value } = form.querySelector(`input[name="${CSS.escape(each.name)}"]`);
    if (!value) continue;
    if (each.in === "path") path = path.replace(`{${each.name}}`, encodeURIComponent(value));
    else if (each.in === "query") query.set(each.name, value);
    else headers[each.name] = value;
  }
  const token = document.getElementById("token").value;
  if (token) headers["X-Runtime-Token"] = token;
  if (body) headers["Content-Type"] = "application/json";
  output.textContent = "";
  const response = await fetch(path + (query.size ? `?${query}` : ""), { method, headers, body: body?.value });
  output.textContent = `${response.status} ${response.statusText}\n\n`;
  if (response.headers.get("content-type")?.includes("json")) {
    output.textContent += json(await response.json());
    return;
  }
  const decoder = new TextDecoder();
  for await (const piece of response.body) output.textContent += decoder.decode(piece, { stream: true });
};

const operationNode = (method, path, operation) => {
  const schema = Object.values(operation.requestBody?.content ?? {})[0]?.schema;
  const body = schema && make("textarea", { rows: 8, value: json(example(schema)) });
  const output = make("pre", { hidden: true });
  const button = make("button", { type: "submit", textContent: "Send" });
  const form = make("form", {}, parameters(operation), body, button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    output.hidden = false;
    try {
      await send(method.toUpperCase(), path, operation, form, body, output);
    } catch (error) {
      output.textContent += String(error);
    }
  });
  return make("details", {},
    make("summary", {}, make("span", { className: "method", textContent: method.toUpperCase() }),
      make("code", { textContent: path }), " ", make("span", { textContent: operation.summary ?? "" })),
    make("p", { textContent: operation.description ?? "" }), form, output, ...responses(operation));
};

spec = await (await fetch("/openapi.json")).json();
document.getElementById("title").textContent = `${spec.info.title} ${spec.info.version}`;
document.getElementById("about").textContent = spec.info.description ?? "";
const groups = new Map();
for (const [path, operations] of Object.entries(spec.paths)) {
  for (const [method, operation] of Object.entries(operations)) {
    const tag = operation.tags?.[0] ?? "Other";
    groups.set(tag, [...(groups.get(tag) ?? []), operationNode(method, path, operation)]);
  }
}
document.getElementById("operations").replaceChildren(
  ...[...groups].flatMap(([tag, nodes]) => [make("h2", { textContent: tag }), ...nodes]));
