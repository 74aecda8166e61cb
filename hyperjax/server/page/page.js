"use strict";

const WAYS = {
  adapter: "Adapter",
  none: "T5 alone",
  in_input: "Examples in the input",
};
const at = (id) => document.getElementById(id);
let adapter = null; // what was written last
let examples = []; // of which it was written
let doubts = []; // of what was pasted, how it was read

// Asks the server; what it refuses is thrown as its sentence.
async function ask(path, body, method) {
  const headers = {};
  if (at("token").value) headers.Authorization = `Bearer ${at("token").value}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method: method || (body === undefined ? "GET" : "POST"),
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Error("The server does not answer.");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) {
    at("token-line").hidden = false;
    at("token").focus();
  }
  const told = await answer.json().catch(() => null);
  throw new Error(told?.error?.message || `The server answered ${answer.status}.`);
}

// Rows of text with a separator; fields may be quoted.
function separated(text, separator) {
  const rows = [[""]];
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const row = rows[rows.length - 1];
    const last = row.length - 1;
    const c = text[i];
    if (quoted) {
      if (c !== '"') row[last] += c;
      else if (text[i + 1] === '"') row[last] += text[++i];
      else quoted = false;
    } else if (c === '"' && row[last].trim() === "" && separator !== "\t") {
      row[last] = "";
      quoted = true;
    } else if (c === separator) row.push("");
    else if (c === "\n") rows.push([""]);
    else if (c !== "\r") row[last] += c;
  }
  return rows
    .map((row) => row.map((field) => field.trim()))
    .filter((row) => row.some((field) => field !== ""));
}

// Names by which columns are known, the likeliest first; those of `hyperjax adapt`.
const NAMES = {
  input: ["input", "inputs", "question", "text", "sentence", "prompt", "source"],
  output: ["output", "outputs", "answer", "label", "target", "targets",
    "completion", "response"],
};

// Those of some columns that have one of a name's names, by their places.
function known(name, columns) {
  const lower = columns.map((x) => x.trim().toLowerCase());
  return NAMES[name].map((x) => lower.lastIndexOf(x)).filter((i) => i >= 0);
}

// The place of a name's column; of several the one that is called so itself.
function place(name, columns) {
  const found = known(name, columns);
  if (!found.length) {
    throw new Error(
      `There is no ${name} among the columns ${columns.join(", ").slice(0, 80)}: ` +
      `call one of them ${name}.`);
  }
  if (found.length > 1 && columns[found[0]].trim().toLowerCase() !== name) {
    throw new Error(
      `${found.map((i) => columns[i]).join(" and ")} may all be the ${name}: ` +
      `call one of them ${name}.`);
  }
  return found[0];
}

function isHeader(columns) {
  return known("input", columns).length > 0 && known("output", columns).length > 0;
}

// What divides a table: best a header, then two columns, then several.
function separatorOf(text) {
  let best = ",";
  let most = -1;
  for (const separator of [",", ";", "\t"]) {
    const rows = separated(text, separator);
    if (!rows.length) continue; // nothing but separators
    const widths = new Set(rows.map((row) => row.length));
    const isEven = widths.size === 1;
    const merit = 4 * isHeader(rows[0]) + 2 * (isEven && widths.has(2))
      + (isEven && !widths.has(1));
    if (merit > most) [best, most] = [separator, merit];
  }
  return best;
}

// Pairs of input and output of JSON: of arrays as they are, of objects by name.
function pairsOfJson(text) {
  let rows;
  try {
    rows = text[0] === "[" ? JSON.parse(text)
      : text.split("\n").filter((x) => x.trim()).map((x) => JSON.parse(x));
  } catch (error) {
    throw new Error(`This is no JSON: ${error.message}`);
  }
  const isObject = (row) => row && typeof row === "object" && !Array.isArray(row);
  const columns = [...new Set(rows.filter(isObject).flatMap(Object.keys))];
  return rows.map((row, i) => {
    if (!isObject(row)) return row;
    return ["input", "output"].map((name) => {
      const column = columns[place(name, columns)];
      const value = row[column];
      if (!["string", "number", "boolean"].includes(typeof value)) {
        throw new Error(`Example ${i + 1}: ${column} must be text.`);
      }
      return String(value);
    });
  });
}

// Pairs of input and output from what was pasted.
function parsed(text) {
  doubts = [];
  text = text.replace(/^\ufeff/, "");
  // What Excel, and others, say first of what divides a table.
  const said = text.match(/^"?sep=([^"\r\n])"?[ ,;\t]*\r?\n/i);
  if (said) text = text.slice(said[0].length);
  text = text.trim();
  if (!text) throw new Error("Give a few examples first.");
  if (!said && (text[0] === "[" || text[0] === "{")) return pairsOfJson(text);
  const rows = separated(text, said ? said[1] : separatorOf(text));
  let columns = rows[0];
  if (isHeader(columns)) {
    rows.shift();
    if (!rows.length) throw new Error("Give a few examples below the header.");
  } else if (known("input", columns).length || known("output", columns).length) {
    for (const name of ["input", "output"]) place(name, columns);
  } else {
    doubts = [
      `The first line is read as an example (${columns.join(" | ").slice(0, 60)}). ` +
      "Where it names the columns, call them input and output."];
    columns = ["input", "output"];
  }
  const places = [place("input", columns), place("output", columns)];
  rows.forEach((row, i) => {
    if (row.length !== columns.length) {
      throw new Error(
        `Example ${i + 1} has ${row.length} columns, and ` +
        `${columns.length === 2 ? "two" : columns.length} are needed: ` +
        `${row.join(" | ").slice(0, 80)}`);
    }
  });
  return rows.map((row) => places.map((x) => row[x]));
}

function table(columns, rows) {
  const made = document.createElement("table");
  const head = made.createTHead().insertRow();
  for (const title of Object.values(columns)) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = title;
    head.append(cell);
  }
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const [key, title] of Object.entries(columns)) {
      const cell = line.insertCell();
      cell.dataset.label = title;
      cell.textContent = row[key] ?? "";
      if (key in WAYS && row.output !== undefined) {
        cell.classList.toggle("right", row[key].trim() === row.output.trim());
      }
    }
  }
  return made;
}

// Has a form do its work, with its button disabled and its error shown.
function form(name, work) {
  const own = at(`${name}-form`);
  const button = own.querySelector("button[type=submit]");
  own.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    at(`${name}-error`).textContent = "";
    try {
      await work();
    } catch (error) {
      at(`${name}-error`).textContent = error.message;
    } finally {
      button.disabled = false;
    }
  });
  for (const area of own.querySelectorAll("textarea")) {
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        own.requestSubmit();
      }
    });
  }
}

function showCheck(found) {
  at("check-wait").hidden = true;
  const check = found.check;
  const said = check?.sentence || "";
  at("verdict").textContent = said && `${said[0].toUpperCase()}${said.slice(1)}.`;
  at("verdict").classList.toggle("helps", Boolean(check?.helps));
  const remarks = [...doubts, ...(check?.remarks || [])];
  const dropped = found.examples.dropped?.length;
  if (dropped) remarks.push(`${dropped} examples had no room and were not read`);
  at("remarks").replaceChildren(...remarks.map((text) => {
    const line = document.createElement("li");
    line.textContent = text;
    return line;
  }));
  if (found.answers.length) {
    const columns = { input: "Held-out input", output: "Right", ...WAYS };
    at("check-table").replaceChildren(table(columns, found.answers));
  }
}

form("examples", async () => {
  examples = parsed(at("examples").value);
  for (const id of ["verdict", "remarks", "check-table", "answers", "kept"]) {
    at(id).replaceChildren();
  }
  at("check").hidden = false;
  at("check-wait").hidden = false;
  at("try-form").hidden = at("keep-form").hidden = true;
  try {
    adapter = await (await ask("v1/adapters", { examples })).json();
  } catch (error) {
    at("check").hidden = true;
    throw error;
  }
  showCheck(adapter);
  at("try-form").hidden = at("keep-form").hidden = false;
  at("download-peft").hidden = !adapter.forms.includes("peft");
});

form("try", async () => {
  const prompt = at("inputs").value.split("\n").filter((x) => x.trim());
  if (!prompt.length) throw new Error("Give an input first.");
  const texts = async (body) =>
    (await (await ask("v1/completions", { prompt, ...body })).json())
      .choices.map((choice) => choice.text);
  const [own, none, inInput] = await Promise.all([
    texts({ model: adapter.id }),
    texts({ model: adapter.t5 }),
    // Of more examples than the T5 reads at once this column says why it is empty.
    texts({ model: adapter.t5, examples })
      .catch((error) => prompt.map(() => `(${error.message})`)),
  ]);
  const rows = prompt.map((input, i) => (
    { input, adapter: own[i], none: none[i], in_input: inInput[i] }));
  at("answers").replaceChildren(table({ input: "Input", ...WAYS }, rows));
});

form("keep", async () => {
  const name = at("name").value.trim();
  if (!name) throw new Error("Give it a name first.");
  if (adapter.is_kept) throw new Error(`It is kept already, as ${adapter.id}.`);
  const kept = await ask(`v1/adapters/${adapter.id}/keep`, { name });
  adapter = { ...adapter, ...(await kept.json()) };
  at("kept").textContent =
    `Kept: ask for the model "${adapter.id}" at ${location.origin}/v1/completions.`;
});

for (const form of ["hyperjax", "peft"]) {
  at(`download-${form}`).addEventListener("click", async () => {
    at("keep-error").textContent = "";
    try {
      const got = await ask(`v1/adapters/${adapter.id}/download?form=${form}`);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await got.blob());
      link.download = `${at("name").value.trim() || adapter.id}-${form}.zip`;
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (error) {
      at("keep-error").textContent = error.message;
    }
  });
}

async function read(file) {
  if (!file) return;
  at("examples-error").textContent = "";
  try {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const mark = bytes[0] << 8 | bytes[1];
    const encoding = mark === 0xfffe ? "utf-16le" : mark === 0xfeff ? "utf-16be" : "utf-8";
    const text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
    if (text.includes("\0")) throw new Error("UTF-16");
    at("examples").value = text;
    at("examples").focus();
  } catch {
    at("examples-error").textContent =
      `${file.name} is not UTF-8: save it as UTF-8 and give it again.`;
  }
}
at("file").addEventListener("change", () => read(at("file").files[0]));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  at("examples-form").addEventListener(name, (event) => {
    event.preventDefault();
    at("examples").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop") read(event.dataTransfer.files[0]);
  });
}
