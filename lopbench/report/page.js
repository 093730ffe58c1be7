"use strict";
// Sorts, filters and unfolds the tables; draws the figures from the data embedded in the page, as SVG and as PDF.
// Whatever comes from the runs is put on the page as text, never as markup. What is grouped, pinned, compared and linked
// is in explore.js, which follows in the same script.

const DATA = JSON.parse(document.getElementById("data").textContent);
for (const each of DATA.tables) for (const row of each.rows) row.fields = { ...each.shared, ...row.fields };
// For rows that are drawn in the same colour.
const DASHES = [[], [5, 2], [1.5, 2], [7, 2, 1.5, 2]];
const FEW = 8; // methods that are drawn at first
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function button(text, label, act) {
  return element("button", { type: "button", "aria-label": label, click: act }, text);
}

// A name that may be broken where it is joined, and not inside a word.
function breakable(text) {
  return text.split(/(?<=[_:,+])(?=\S)/).flatMap((part, index) => (index ? [document.createElement("wbr"), part] : [part]));
}

function floats(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

function download(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

// What a spreadsheet would take for a formula is quoted, as in the leaderboard's own CSV.
function csvCell(value) {
  let text = typeof value === "number" ? (Number.isNaN(value) ? "" : String(Number(value.toPrecision(7)))) : String(value);
  if (typeof value !== "number" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
  return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

const csv = (lines) => lines.map((line) => line.map(csvCell).join(",") + "\n").join("");
const words = (metric) => metric.replaceAll("_", " ");
const fileName = (...parts) => parts.join("-").replace(/[^A-Za-z0-9@.]+/g, "-").slice(0, 120);

function number(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "–" : "∞";
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5)
    ? value.toExponential(1).replace(".0e", "e").replace("e+", "e")
    : String(Number(value.toPrecision(3)));
}

// -- theme

{
  const themes = ["system", "light", "dark"];
  const choose = byId("theme");
  choose.addEventListener("click", () => {
    const root = document.documentElement;
    const next = themes[(themes.indexOf(root.dataset.theme || "system") + 1) % themes.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    choose.textContent = `Theme: ${next}`;
  });
}

// -- tables

function sortTable(table, column, heading) {
  const falling = heading.getAttribute("aria-sort");
  const isNumber = heading.classList.contains("n");
  const descending = falling === null ? isNumber : falling === "ascending";
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const keyed = Array.from(table.tBodies).filter((body) => !body.classList.contains("group"))
    .map((body) => [body, body.rows[0].cells[column].dataset.v]);
  keyed.sort(([, a], [, b]) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // what is not known is last either way
    const order = isNumber ? Number(a) - Number(b) : a.localeCompare(b);
    return descending ? -order : order;
  });
  table.append(...keyed.map(([body]) => body));
  keyed.forEach(([body], place) => ORDER.set(body, place));
  arrange(table);
}

for (const table of document.querySelectorAll(".board")) {
  Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
    const text = heading.textContent;
    if (text === "" || heading.querySelector("svg")) return;
    heading.replaceChildren(element("button", { type: "button", click: () => sortTable(table, column, heading) }, text));
  });
}

// The data of each row that the tables show.
const ROW = new Map();
const ORDER = new Map(); // where a row stands in its table, if it is not pinned
document.querySelectorAll(".protocol").forEach((section, place) => {
  section.querySelectorAll("tbody[data-key]").forEach((body, index) => {
    ROW.set(body, DATA.tables[place].rows[index]);
    ORDER.set(body, index);
  });
});
const pinned = new Set(); // keys of rows

// What a row has under a name: a column, or a field of one of its components, with or without the component's name.
function valuesOf(row, name) {
  const own = { lr: row.lr, seeds: row.seeds, retention: row.retention[0] };
  if (name in own) return [own[name]];
  return Object.entries(row.fields).filter(([key]) => `.${key.toLowerCase()}`.endsWith(`.${name.toLowerCase()}`)).map(([, value]) => value);
}

function holds(value, relation, text) {
  if (value === null) return false;
  const [one, other] = [Number(value), Number(text)];
  const numbers = text !== "" && Number.isFinite(one) && Number.isFinite(other);
  if (relation === "=") return numbers ? one === other : String(value).toLowerCase().includes(text);
  if (!numbers) return false;
  return { "<": one < other, ">": one > other, "<=": one <= other, ">=": one >= other }[relation];
}

function matches(term, body, section) {
  if ((body.dataset.text + " " + section.dataset.text).includes(term)) return true;
  const found = term.match(/^([\w.]+)(<=|>=|=|<|>)(.+)$/);
  return found !== null && valuesOf(ROW.get(body), found[1]).some((value) => holds(value, found[2], found[3]));
}

function filterRows() {
  const terms = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const track = byId("track").value;
  let shown = 0;
  let all = 0;
  for (const section of document.querySelectorAll(".protocol")) {
    let left = 0;
    for (const body of section.querySelectorAll("tbody[data-text]")) {
      const found = terms.every((term) => matches(term, body, section)) && (track === "" || body.dataset.track === track);
      body.hidden = !found && !pinned.has(body.dataset.key);
      left += !body.hidden;
      all += 1;
    }
    section.hidden = left === 0;
    shown += left;
    hideEmptyGroups(section);
  }
  byId("none").hidden = shown > 0;
  byId("count").textContent = shown === all ? `${all} rows` : `${shown} of ${all} rows`;
}

for (const [name, event] of [["filter", "input"], ["track", "change"]]) {
  byId(name).addEventListener(event, () => {
    filterRows();
    keepState();
  });
}
byId("csv").addEventListener("click", () => download("leaderboard.csv", "text/csv", DATA.csv));
filterRows();

// The name of a run's record, a link if the record lies below the folder of the page.
function recordOf(run) {
  const [name, place] = run.slice(-2);
  const made = element("code", {}, name);
  return place === null ? made : element("a", { href: `${DATA.folders[place]}${encodeURIComponent(name)}/` }, made);
}

// The runs of a row, which are many, are put on the page when somebody looks.
function showRuns(detail) {
  const place = detail.querySelector(".of-runs");
  if (place.firstChild) return;
  const columns = ["seed", "outcome", "retention", "time", "date", "device", "torch", "commit", "record"];
  const numbers = ["seed", "retention", "time"];
  const cell = (tag, text, name, more = {}) => element(tag, { ...more, ...(numbers.includes(name) ? { class: "n" } : {}) }, text);
  const head = columns.map((name) => cell("th", name, name, { scope: "col" }));
  const body = ROW.get(detail.parentElement).runs.map((run) => element("tr", {}, ...columns.map((name, index) =>
    cell("td", name === "record" ? recordOf(run) : name === "commit" ? element("code", {}, run[index]) : String(run[index]), name))));
  place.append(element("table", { class: "runs" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body)));
}

byId("leaderboard").addEventListener("click", (event) => {
  const unfold = event.target.closest(".expand");
  if (unfold) {
    const detail = byId(unfold.getAttribute("aria-controls"));
    detail.hidden = !detail.hidden;
    showRuns(detail);
    unfold.setAttribute("aria-expanded", String(!detail.hidden));
  }
  const copy = event.target.closest(".copy");
  if (copy) {
    const code = copy.parentElement.querySelector("code");
    const select = () => getSelection().selectAllChildren(code); // where there is no clipboard
    if (navigator.clipboard) {
      navigator.clipboard.writeText(code.textContent).then(() => { copy.textContent = "Copied"; }, select);
    } else select();
  }
});

// -- figures: a list of marks, drawn as SVG or as PDF
//
// A mark is {line: points, paint, width, dash} or {area: points, paint, alpha} or {rect: [x, y, w, h], paint, alpha} or
// {dot: [x, y, r], paint, alpha} or {text, x, y, anchor, size, bold, turned, paint}. Paint is a name of the palette.

const HELVETICA = "Helvetica, Arial, sans-serif";
const ruler = document.createElement("canvas").getContext("2d");

function textWidth(text, size) {
  ruler.font = `${size}px ${HELVETICA}`;
  return ruler.measureText(text).width;
}

const short = (value) => Number(value.toFixed(2));

function toSvg({ width, height, marks }, paint) {
  const root = document.createElementNS(SVG, "svg");
  const put = (name, attributes) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(key, value);
    root.append(made);
    return made;
  };
  root.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const path = (points) => "M" + points.map(([x, y]) => `${short(x)} ${short(y)}`).join("L");
  for (const mark of marks) {
    const colour = paint(mark.paint);
    if (mark.line) {
      put("path", {
        d: path(mark.line), fill: "none", stroke: colour, "stroke-width": mark.width, "stroke-linejoin": "round",
        "stroke-dasharray": mark.dash && mark.dash.length ? mark.dash.join(" ") : undefined,
      });
    } else if (mark.area) {
      put("path", { d: path(mark.area) + "Z", fill: colour, "fill-opacity": mark.alpha });
    } else if (mark.rect) {
      const [x, y, w, h] = mark.rect.map(short);
      put("rect", { x, y, width: w, height: h, fill: colour, "fill-opacity": mark.alpha });
    } else if (mark.dot) {
      const [cx, cy, r] = mark.dot.map(short);
      put("circle", { cx, cy, r, fill: colour, "fill-opacity": mark.alpha });
    } else {
      put("text", {
        x: short(mark.x), y: short(mark.y), fill: colour, "font-size": mark.size, "text-anchor": mark.anchor,
        "font-weight": mark.bold ? "bold" : undefined,
        transform: mark.turned ? `rotate(-90 ${short(mark.x)} ${short(mark.y)})` : undefined,
      }).textContent = mark.text;
    }
  }
  return root;
}

function svgFile(figure) {
  const root = toSvg(figure, (name) => DATA.palette[name]);
  root.setAttribute("xmlns", SVG);
  root.setAttribute("width", figure.width);
  root.setAttribute("height", figure.height);
  root.setAttribute("font-family", HELVETICA);
  return new XMLSerializer().serializeToString(root) + "\n";
}

// PDF's own fonts know Latin letters only.
const LATIN = { "–": "\x96", "—": "\x97", "…": "\x85", "‘": "\x91", "’": "\x92", "“": "\x93", "”": "\x94", "∞": "inf" };

function pdfText(text) {
  return Array.from(text, (c) => LATIN[c] || (/[\x20-\x7e\xa0-\xff]/.test(c) ? c : "?"))
    .join("").replace(/[()\\]/g, "\\$&");
}

function pdfFile({ width, height, marks }) {
  const alphas = new Map();
  const body = [];
  const rgb = (name) => DATA.palette[name].match(/[0-9a-f]{2}/g).map((hex) => short(parseInt(hex, 16) / 255)).join(" ");
  const path = (points) => points.map(([x, y], i) => `${short(x)} ${short(height - y)} ${i ? "l" : "m"}`).join(" ");
  const opacity = (alpha = 1) => {
    const key = alpha.toFixed(2);
    if (!alphas.has(key)) alphas.set(key, `A${alphas.size}`);
    return `/${alphas.get(key)} gs`;
  };
  for (const mark of marks) {
    if (mark.line) {
      const dash = `[${(mark.dash || []).join(" ")}] 0 d`;
      body.push(`${opacity()} ${rgb(mark.paint)} RG ${mark.width} w 1 j ${dash} ${path(mark.line)} S`);
    } else if (mark.area) {
      body.push(`${opacity(mark.alpha)} ${rgb(mark.paint)} rg ${path(mark.area)} h f`);
    } else if (mark.rect) {
      const [x, y, w, h] = mark.rect;
      body.push(`${opacity(mark.alpha)} ${rgb(mark.paint)} rg ${short(x)} ${short(height - y - h)} ${short(w)} ${short(h)} re f`);
    } else if (mark.dot) {
      const [x, up, r] = [mark.dot[0], height - mark.dot[1], mark.dot[2]];
      const k = 0.5523 * r; // four Bezier curves make a circle
      const curve = (...n) => n.map(short).join(" ") + " c";
      body.push(`${opacity(mark.alpha)} ${rgb(mark.paint)} rg ${short(x + r)} ${short(up)} m`,
        curve(x + r, up + k, x + k, up + r, x, up + r), curve(x - k, up + r, x - r, up + k, x - r, up),
        curve(x - r, up - k, x - k, up - r, x, up - r), curve(x + k, up - r, x + r, up - k, x + r, up), "f");
    } else {
      const share = { end: 1, middle: 0.5 }[mark.anchor] || 0;
      const back = share * textWidth(mark.text, mark.size);
      const [x, y] = [mark.x - (mark.turned ? 0 : back), height - mark.y - (mark.turned ? back : 0)].map(short);
      const matrix = mark.turned ? `0 1 -1 0 ${x} ${y}` : `1 0 0 1 ${x} ${y}`;
      body.push(`${opacity()} BT /${mark.bold ? "B" : "F"} ${mark.size} Tf ${rgb(mark.paint)} rg ${matrix} Tm (${pdfText(mark.text)}) Tj ET`);
    }
  }
  const stream = body.join("\n");
  const states = Array.from(alphas, ([alpha, name]) => `/${name} << /ca ${alpha} /CA ${alpha} >>`).join(" ");
  const font = (name) => `<< /Type /Font /Subtype /Type1 /BaseFont /${name} /Encoding /WinAnsiEncoding >>`;
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R >>",
    "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 ${width} ${height}] /Contents 4 0 R ` +
      `/Resources << /Font << /F 5 0 R /B 6 0 R >> /ExtGState << ${states} >> >> >>`,
    `<< /Length ${stream.length} >>\nstream\n${stream}\nendstream`,
    font("Helvetica"),
    font("Helvetica-Bold"),
  ];
  let file = "%PDF-1.4\n";
  const places = objects.map((object, index) => {
    const place = file.length;
    file += `${index + 1} 0 obj\n${object}\nendobj\n`;
    return place;
  });
  const start = file.length;
  file += `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n`;
  file += places.map((place) => String(place).padStart(10, "0") + " 00000 n \n").join("");
  file += `trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${start}\n%%EOF\n`;
  return Uint8Array.from(file, (c) => c.charCodeAt(0)); // one byte each: offsets count characters
}

// -- axes

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((each) => each * power >= rough * 0.999) * power;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(i * step);
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
  }
  const inside = found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
  const tens = inside.filter((value) => Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-9);
  return tens.length > 3 || inside.length > 7 ? tens : inside;
}

function axis(values, from, to, { log = false, pad = 0.04, at = null, count = 5 } = {}) {
  const known = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  let low = known.reduce((a, b) => Math.min(a, b), Infinity);
  let high = known.reduce((a, b) => Math.max(a, b), -Infinity);
  if (low > high) [low, high] = log ? [0.1, 1] : [0, 1];
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const f = log ? Math.log : (value) => value;
  const [start, end] = [f(low), f(high)];
  const margin = (end - start) * pad;
  const place = (value) => from + ((f(value) - start + margin) / (end - start + 2 * margin)) * (to - from);
  return { place, low, high, ticks: at || (log ? logTicks(low, high) : ticks(low, high, count)) };
}

const FRAME = { width: 380, height: 236, left: 46, right: 10, top: 8, bottom: 36 };

// What an enlarged figure has: as wide as the page, and at most 75% of the window high with its heading.
function roomy(element) {
  const scale = 1.2; // of its text
  const [wide, high] = [element.clientWidth / scale, (0.75 * window.innerHeight - 48) / scale];
  return { ...FRAME, width: wide, height: Math.max(160, Math.min(high, 0.62 * wide)) };
}

function frame(x, y, xName, yName, area) {
  const { width, height, left, right, top, bottom } = area;
  const marks = [];
  for (const value of y.ticks) {
    const at = y.place(value);
    marks.push({ line: [[left, at], [width - right, at]], paint: "rule", width: 0.6 });
    marks.push({ text: number(value), x: left - 5, y: at + 3.5, anchor: "end", size: 10, paint: "muted" });
  }
  let last = -Infinity;
  for (const value of x.ticks) {
    const at = x.place(value);
    if (at - last < 26) continue; // its text would run into the one before
    last = at;
    marks.push({ line: [[at, height - bottom], [at, height - bottom + 3]], paint: "muted", width: 0.8 });
    marks.push({ text: number(value), x: at, y: height - bottom + 14, anchor: "middle", size: 10, paint: "muted" });
  }
  marks.push({ line: [[left, height - bottom], [width - right, height - bottom]], paint: "muted", width: 0.8 });
  marks.push({ text: xName, x: (left + width - right) / 2, y: height - 7, anchor: "middle", size: 10, paint: "muted" });
  if (yName) marks.push({ text: yName, x: 10, y: (top + height - bottom) / 2, anchor: "middle", size: 10, turned: true, paint: "muted" });
  return marks;
}

// -- what is drawn

const REFERENCE = { name: "fresh network", paint: "ink", dash: [3, 2], width: 1.2 };
const MARKED = 12; // most markers of a line: more hide it
let table = null;
const rowOf = new Map(); // label -> row of the table
const dashes = new Map(); // label -> which of the lines of its colour it is, kept as long as it is drawn
const chosen = new Set(); // labels that are drawn

function assign() {
  for (const label of dashes.keys()) if (!chosen.has(label)) dashes.delete(label);
  for (const { label, look: [paint] } of table.rows) {
    if (!chosen.has(label) || dashes.has(label)) continue;
    const taken = new Set(Array.from(dashes).filter(([other]) => rowOf.get(other).look[0] === paint).map(([, place]) => place));
    let place = 0;
    while (taken.has(place)) place += 1;
    dashes.set(label, place);
  }
}

// A row has one colour and marker, that of its method in figures too; where rows share the colour, their dashes differ.
function look(label) {
  return { ...dressOf(rowOf.get(label).look), name: label, dash: DASHES[dashes.get(label) % DASHES.length] };
}

const dressOf = ([paint, marker]) => ({ paint, marker, width: 1.6 });

function swatch({ paint, marker, dash, width }) {
  const marks = [{ line: [[1, 5], [25, 5]], paint, dash, width: width + 0.6 }];
  if (marker) marks.push(point({ paint, marker }, [13, 5], 3));
  const made = toSvg({ width: 26, height: 10, marks }, onPage);
  made.setAttribute("aria-hidden", "true");
  return made;
}

const onPage = (name) => `var(--${name})`;

// The markers of matplotlib by their letters, about as large as a circle of radius 1, which is what any other letter gets.
const PLUS = [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]];
const SHAPES = {
  s: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
  D: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
  "^": [[0, -1.2], [1.2, 1], [-1.2, 1]],
  v: [[0, 1.2], [1.2, -1], [-1.2, -1]],
  "<": [[-1.2, 0], [1, 1.2], [1, -1.2]],
  ">": [[1.2, 0], [-1, 1.2], [-1, -1.2]],
  P: PLUS,
  X: PLUS.map(([x, y]) => [(x - y) * Math.SQRT1_2, (x + y) * Math.SQRT1_2]),
  "*": Array.from({ length: 10 }, (_, i) => [Math.sin((i * Math.PI) / 5), -Math.cos((i * Math.PI) / 5)].map((part) => part * (i % 2 ? 0.65 : 1.6))),
};

function point({ marker, paint }, [x, y], size, alpha = 1) {
  const shape = SHAPES[marker];
  return shape ? { area: shape.map(([a, b]) => [x + size * a, y + size * b]), paint, alpha } : { dot: [x, y, size], paint, alpha };
}

const drawn = () => table.rows.filter((row) => chosen.has(row.label));

function tasksOf(index) {
  const first = index * table.span;
  return [first, Math.min(first + table.span, table.tasks) - 1];
}

function taskText(index) {
  const [first, last] = tasksOf(index);
  return first === last ? `task ${first}` : `tasks ${first} to ${last}`;
}

// One curve: the mean, and the ends of its interval where there are several seeds.
function curve(text) {
  if (text === undefined) return null;
  const all = floats(text);
  const count = Math.ceil(table.tasks / table.span);
  return all.length === count
    ? { mean: all, low: all, high: all, single: true }
    : { mean: all.subarray(0, count), low: all.subarray(count, 2 * count), high: all.subarray(2 * count), single: false };
}

// The online score of each seed, by seed.
function seedLines(row) {
  const all = floats(row.lines);
  const count = Math.ceil(table.tasks / table.span);
  return new Map(row.runs.map(([seed], index) => [seed, all.subarray(index * count, (index + 1) * count)]));
}

// The parts of a line: it is broken where it is not known, but where nothing was measured of any line.
function pieces(values, measured = values.map((_, index) => index)) {
  const found = [];
  let open = null;
  for (const index of measured) {
    if (!Number.isFinite(values[index])) open = null;
    else if (open) open.push(index);
    else found.push((open = [index]));
  }
  return found;
}

// Whether means differ so much that their axis is logarithmic.
function wantsLog(metric, means) {
  const known = means.filter(Number.isFinite);
  const [least, most] = [known.reduce((a, b) => Math.min(a, b), Infinity), known.reduce((a, b) => Math.max(a, b), -Infinity)];
  return metric !== "retention" && !metric.includes("fraction") && least > 0 && most / least > 50;
}

// Where the methods that are drawn turned on.
function switches(x, area) {
  const marks = [];
  for (const start of new Set(drawn().map((row) => row.start).filter(Boolean))) {
    const at = x.place(start * table.tasks - 0.5);
    if (at < area.left || at > area.width - area.right) continue;
    marks.push({ line: [[at, area.top], [at, area.height - area.bottom]], paint: "muted", width: 1, dash: [1, 2] });
    marks.push({ text: "method on", x: at + 3, y: area.top + 8, size: 9, paint: "muted" });
  }
  return marks;
}

// The mean of a line, with a few markers; a line without has dots, if its points are few.
function meanMarks(line, measured, at) {
  const marks = [];
  const every = Math.ceil(measured.length / MARKED);
  for (const piece of pieces(line.mean, measured)) {
    const points = piece.map(at);
    if (points.length > 1) marks.push({ line: points, paint: line.paint, width: line.width, dash: line.dash });
    if (!line.marker && points.length >= MARKED) continue;
    points.forEach((each, i) => { if (!line.marker || i % every === 0) marks.push(point(line, each, line.marker ? 2.4 : 2)); });
  }
  return marks;
}

const middle = (index) => (tasksOf(index)[0] + tasksOf(index)[1]) / 2;

function curvesFigure(metric, area) {
  const lines = drawn().map((row) => ({ ...look(row.label), seeds: row.seeds, ...curve(row.curves[metric]) }));
  const fresh = curve(table.fresh[metric]);
  if (fresh) lines.push({ ...REFERENCE, seeds: table.references, ...fresh });
  const known = lines.filter((line) => line.mean);
  const { width, height, left, right, top, bottom } = area;
  const count = Math.ceil(table.tasks / table.span);
  const measured = Array.from({ length: count }, (_, i) => i).filter((i) => known.some((line) => Number.isFinite(line.mean[i])));
  const sparse = fresh ? measured.filter((i) => Number.isFinite(fresh.mean[i])) : measured; // fresh networks cover some tasks
  const of = (line) => (line.name === REFERENCE.name ? sparse : measured);
  const ends = measured.length ? [tasksOf(measured[0])[0], tasksOf(measured.at(-1))[1]] : [0, table.tasks - 1];
  const x = axis(ends, left, width - right, { pad: 0.02 });
  x.ticks = x.ticks.filter(Number.isInteger);
  const values = known.flatMap((line) => [...line.low, ...line.high]).filter(Number.isFinite);
  if (byId("each-seed").checked && metric === table.score) {
    values.push(...drawn().filter((row) => row.lines).flatMap((row) => [...floats(row.lines)]).filter(Number.isFinite));
  }
  if (metric === "retention") values.push(1);
  const log = wantsLog(metric, known.flatMap((line) => [...line.mean]));
  const y = axis(values, height - bottom, top, { log });
  const marks = frame(x, y, "task", log ? "log scale" : "", area);
  const clamp = (at) => Math.min(at, height - bottom);
  const up = (value) => (log && value <= 0 ? height - bottom : clamp(y.place(value)));
  if (metric === "retention") marks.push({ line: [[left, y.place(1)], [width - right, y.place(1)]], ...REFERENCE });
  marks.push(...switches(x, area));
  for (const line of known) {
    for (const piece of line.single ? [] : pieces(line.low, of(line))) {
      const edge = (end, indices) => indices.map((i) => [x.place(middle(i)), up(line[end][i])]);
      if (piece.length > 1) marks.push({ area: [...edge("low", piece), ...edge("high", [...piece].reverse())], paint: line.paint, alpha: 0.16 });
      else marks.push({ line: [...edge("low", piece), ...edge("high", piece)], paint: line.paint, width: 1 });
    }
  }
  if (byId("each-seed").checked && metric === table.score) {
    for (const row of drawn().filter((each) => each.lines)) {
      for (const values of seedLines(row).values()) {
        for (const piece of pieces(values)) {
          const points = piece.map((i) => [x.place(middle(i)), up(values[i])]);
          if (points.length > 1) marks.push({ line: points, paint: look(row.label).paint, width: 0.5 });
        }
      }
    }
  }
  for (const line of known) marks.push(...meanMarks(line, of(line), (i) => [x.place(middle(i)), up(line.mean[i])]));
  return {
    name: metric, title: words(metric), metric, width, height, marks, lines: known, count, top, bottom,
    place: (index) => x.place(middle(index)),
    tell: (index) => ({
      head: taskText(index),
      lines: known.filter((line) => Number.isFinite(line.mean[index])).sort((a, b) => b.mean[index] - a.mean[index])
        .map((line) => [line, number(line.mean[index]) + (line.single ? "" : ` [${number(line.low[index])}, ${number(line.high[index])}]`)]),
    }),
    csv: () => csv([
      ["method", "first_task", "last_task", "metric", "mean", "low", "high", "seeds"],
      ...known.flatMap((line) => Array.from(line.mean, (mean, i) => [line.name, ...tasksOf(i), metric, mean,
        line.single ? NaN : line.low[i], line.single ? NaN : line.high[i], line.seeds]).filter(([, , , , mean]) => Number.isFinite(mean))),
    ]),
  };
}

function scatterFigure([across, upward, sized = null], area) {
  const { width, height, left, right, top, bottom } = area;
  const points = [];
  for (const row of drawn()) {
    const [a, b, c] = [across, upward, sized].map((metric) => curve(metric ? row.curves[metric] : undefined));
    if (!a || !b || (sized && !c)) continue;
    a.mean.forEach((value, index) => {
      const found = { line: look(row.label), index, x: value, y: b.mean[index], size: sized ? c.mean[index] : 0 };
      if ([found.x, found.y, found.size].every(Number.isFinite)) points.push(found);
    });
  }
  if (points.length === 0) return null;
  const x = axis(points.map((p) => p.x), left, width - right);
  const y = axis(points.map((p) => p.y), height - bottom, top);
  const sizes = axis(points.map((p) => p.size), 1.5, 6.5, { pad: 0 });
  const marks = frame(x, y, words(across), words(upward), area);
  const late = Math.max(1, Math.ceil(table.tasks / table.span) - 1);
  for (const each of points) {
    each.at = [x.place(each.x), y.place(each.y)];
    // Lighter is earlier.
    marks.push(point(each.line, each.at, sized ? sizes.place(each.size) : 2.6, 0.15 + 0.75 * (each.index / late)));
  }
  return {
    name: fileName(across, upward), title: `${words(upward)} over ${words(across)}`,
    metric: across, heading: sized ? `${words(across)} and ${words(upward)}` : words(across), subtitle: sized ? `larger: more ${words(sized)}` : "", note: sized ? `larger: more ${words(sized)}` : "", width, height, marks,
    lines: Array.from(new Map(points.map((p) => [p.line.name, p.line])).values()),
    near: (px, py) => {
      const found = points.reduce((best, p) => {
        const d = (p.at[0] - px) ** 2 + (p.at[1] - py) ** 2;
        return d < best.d ? { d, p } : best;
      }, { d: 225, p: null }).p;
      return found && {
        at: found.at, head: taskText(found.index),
        lines: [[found.line, `${number(found.x)}, ${number(found.y)}${sized ? ", " + number(found.size) : ""}`]],
      };
    },
    csv: () => csv([
      ["method", "first_task", "last_task", across, upward, ...(sized ? [sized] : [])],
      ...points.map((p) => [p.line.name, ...tasksOf(p.index), p.x, p.y, ...(sized ? [p.size] : [])]),
    ]),
  };
}

function mapFigures(metric) {
  const names = table.layers[metric];
  const count = Math.ceil(table.tasks / table.span);
  const maps = drawn().filter((row) => row.maps[metric]).map((row) => [row, floats(row.maps[metric])]);
  const all = maps.flatMap(([, values]) => [...values]).filter(Number.isFinite);
  const low = all.reduce((a, b) => Math.min(a, b), 0);
  const high = all.reduce((a, b) => Math.max(a, b), low + 1e-12);
  const shade = (value) => Math.round((32 * (value - low)) / (high - low)) / 32; // few shades: equal neighbours merge
  return maps.map(([row, values]) => (area) => {
    const { top, right } = area;
    const left = 12 + Math.max(...names.map((name) => textWidth(name, 9)));
    const width = Math.max(area.width, left + 140 + right); // names stand whole, and leave room
    const tall = Math.max(10, Math.min(area === FRAME ? 22 : 40, (area.height - 86) / names.length));
    const bottom = top + tall * names.length;
    const wide = (width - right - left) / count;
    const marks = [];
    names.forEach((name, layer) => {
      const y = top + layer * tall;
      marks.push({ text: name, x: left - 5, y: y + tall / 2 + 3, anchor: "end", size: 9, paint: "muted" });
      const of = (index) => {
        const value = values[layer * count + index];
        return Number.isFinite(value) ? shade(value) : -1;
      };
      for (let from = 0; from < count; ) {
        let to = from + 1;
        while (to < count && of(to) === of(from)) to += 1;
        const level = of(from);
        const rect = [left + from * wide, y, (to - from) * wide, tall - 1];
        marks.push(level < 0 ? { rect, paint: "rule", alpha: 1 } : { rect, paint: "accent", alpha: 0.04 + 0.96 * level });
        from = to;
      }
    });
    const x = axis([0, table.tasks - 1], left + wide / 2, width - right - wide / 2, { pad: 0 });
    for (const value of x.ticks.filter(Number.isInteger)) {
      marks.push({ text: number(value), x: x.place(value), y: bottom + 12, anchor: "middle", size: 10, paint: "muted" });
    }
    const key = bottom + 24; // the scale, which all maps of the metric share
    marks.push({ text: "task", x: left, y: key + 7, size: 10, paint: "muted" });
    const ends = [number(low), number(high)];
    const from = width - right - textWidth(ends[1], 10) - 5 - 96;
    for (let i = 0; i < 32; i += 1) marks.push({ rect: [from + i * 3, key, 3, 8], paint: "accent", alpha: 0.04 + (0.96 * i) / 31 });
    marks.push({ text: ends[0], x: from - 5, y: key + 7, anchor: "end", size: 10, paint: "muted" });
    marks.push({ text: ends[1], x: width - right, y: key + 7, anchor: "end", size: 10, paint: "muted" });
    return {
      name: fileName(metric, row.label), title: row.label, subtitle: words(metric), metric, width, height: key + 14, marks, lines: [],
      near: (px, py) => {
        const [index, layer] = [Math.floor((px - left) / wide), Math.floor((py - top) / tall)];
        if (index < 0 || index >= count || layer < 0 || layer >= names.length) return null;
        return { at: [left + (index + 0.5) * wide, top + layer * tall], head: `${names[layer]}, ${taskText(index)}: ${number(values[layer * count + index])}`, lines: [] };
      },
      csv: () => csv([
        ["method", "layer", "first_task", "last_task", metric],
        ...names.flatMap((name, layer) => Array.from({ length: count }, (_, i) => [row.label, name, ...tasksOf(i), values[layer * count + i]])),
      ]),
    };
  });
}

// A figure for each layer, with a line for each method; they share their vertical axis.
function layerFigures(metric) {
  const names = table.layers[metric];
  const count = Math.ceil(table.tasks / table.span);
  const rows = drawn().filter((row) => row.maps[metric]);
  const lines = names.map((_, layer) => rows.map((row) => ({
    ...look(row.label), seeds: row.seeds, mean: floats(row.maps[metric]).subarray(layer * count, (layer + 1) * count),
  })));
  const values = lines.flat().flatMap((line) => [...line.mean]).filter(Number.isFinite);
  const log = wantsLog(metric, values);
  return names.map((name, layer) => (area) => {
    const { width, height, left, right, top, bottom } = area;
    const known = lines[layer].filter((line) => line.mean.some(Number.isFinite));
    const measured = Array.from({ length: count }, (_, i) => i).filter((i) => known.some((line) => Number.isFinite(line.mean[i])));
    const x = axis([0, table.tasks - 1], left, width - right, { pad: 0.02 });
    x.ticks = x.ticks.filter(Number.isInteger);
    const y = axis(values, height - bottom, top, { log });
    const marks = [...frame(x, y, "task", log ? "log scale" : "", area), ...switches(x, area)];
    for (const line of known) marks.push(...meanMarks(line, measured, (i) => [x.place(middle(i)), y.place(line.mean[i])]));
    return {
      name: fileName(metric, name), title: `${words(metric)}, ${name}`, heading: name, metric, width, height, marks, lines: known, count, top, bottom,
      place: (index) => x.place(middle(index)),
      tell: (index) => ({
        head: taskText(index),
        lines: known.filter((line) => Number.isFinite(line.mean[index])).sort((a, b) => b.mean[index] - a.mean[index])
          .map((line) => [line, number(line.mean[index])]),
      }),
      csv: () => csv([
        ["method", "layer", "first_task", "last_task", metric, "seeds"],
        ...known.flatMap((line) => Array.from(line.mean, (mean, i) => [line.name, name, ...tasksOf(i), mean, line.seeds]).filter((each) => Number.isFinite(each[4]))),
      ]),
    };
  });
}

function ratesFigure(rows, area) {
  const { width, height, left, right, top, bottom } = area;
  const rates = [...new Set(rows.map((row) => row.lr))].sort((a, b) => a - b);
  // A method has the line of its first row that is drawn, and a point for each of its rows.
  const lines = new Map();
  for (const row of rows) if (chosen.has(row.label) && !lines.has(row.method)) lines.set(row.method, { ...dressOf(row.family), name: row.method, dash: [] });
  const points = rows.filter((row) => lines.has(row.method) && row.retention[0] !== null)
    .map((row) => ({ line: lines.get(row.method), lr: row.lr, seeds: row.seeds, mean: row.retention[0], low: row.retention[1], high: row.retention[2] }));
  if (points.length === 0) return null;
  const x = axis(rates, left, width - right, { log: true, pad: 0.08, at: rates });
  const y = axis([1, ...points.flatMap((p) => [p.mean, p.low ?? p.mean, p.high ?? p.mean])], height - bottom, top);
  const marks = frame(x, y, "learning rate", "", area);
  marks.push({ line: [[left, y.place(1)], [width - right, y.place(1)]], ...REFERENCE });
  const labels = [...new Set(points.map((p) => p.line.name))];
  labels.forEach((label, index) => {
    const own = points.filter((p) => p.line.name === label).sort((a, b) => a.lr - b.lr);
    // Side by side: bars at the same learning rate would hide each other.
    for (const p of own) p.at = [x.place(p.lr) + (index - (labels.length - 1) / 2) * 2.5, y.place(p.mean)];
    marks.push({ line: own.map((p) => p.at), paint: own[0].line.paint, width: 1.2, dash: own[0].line.dash });
    for (const p of own) {
      if (p.low !== null) marks.push({ line: [[p.at[0], y.place(p.low)], [p.at[0], y.place(p.high)]], paint: p.line.paint, width: 1.6 });
      marks.push(point(p.line, p.at, 2.6));
    }
  });
  return {
    name: "retention-learning-rate", metric: "retention", title: "retention over the learning rate", heading: "retention", width, height, marks,
    lines: points.filter((p, i) => points.findIndex((q) => q.line.name === p.line.name) === i).map((p) => p.line),
    csv: () => csv([
      ["method", "learning_rate", "retention", "low", "high", "seeds"],
      ...points.map((p) => [p.line.name, p.lr, p.mean, p.low ?? NaN, p.high ?? NaN, p.seeds]),
    ]),
  };
}

// A figure to keep: on white, with its title, its setting and its legend.
function dressed(figure) {
  const marks = [{ text: figure.title, x: 10, y: 16, size: 11, bold: true, paint: "ink" }];
  const setting = [figure.subtitle, table.title].filter(Boolean).join("; ");
  marks.push({ text: setting, x: 10, y: 29, size: 9, paint: "muted" });
  marks.push({ text: spread(), x: 10, y: 40, size: 9, paint: "muted" });
  const moved = 46;
  const shift = ([x, y]) => [x, y + moved];
  for (const mark of figure.marks) {
    if (mark.line) marks.push({ ...mark, line: mark.line.map(shift) });
    else if (mark.area) marks.push({ ...mark, area: mark.area.map(shift) });
    else if (mark.rect) marks.push({ ...mark, rect: [mark.rect[0], mark.rect[1] + moved, mark.rect[2], mark.rect[3]] });
    else if (mark.dot) marks.push({ ...mark, dot: [mark.dot[0], mark.dot[1] + moved, mark.dot[2]] });
    else marks.push({ ...mark, y: mark.y + moved });
  }
  const width = Math.max(figure.width, ...[setting, spread(), ...figure.lines.map((line) => "xxxxxxxx" + line.name)].map((text) => textWidth(text, 9) + 20));
  let [x, y] = [10, moved + figure.height + 8];
  for (const line of figure.lines) {
    const wide = 28 + textWidth(line.name, 9) + 14;
    if (x > 10 && x + wide > width) [x, y] = [10, y + 13];
    marks.push({ line: [[x, y - 3], [x + 22, y - 3]], paint: line.paint, dash: line.dash, width: line.width });
    if (line.marker) marks.push(point(line, [x + 11, y - 3], 2.6));
    marks.push({ text: line.name, x: x + 28, y, size: 9, paint: "ink" });
    x += wide;
  }
  return { width: Math.ceil(width), height: Math.ceil(figure.lines.length ? y + 10 : moved + figure.height), marks };
}

function spread() {
  const seeds = drawn().map((row) => row.seeds);
  const [few, many] = [Math.min(...seeds), Math.max(...seeds)];
  const count = few === many ? `${many} seed${many > 1 ? "s" : ""}` : `${few} to ${many} seeds`;
  const points = table.span > 1 ? `; each point is the mean of ${table.span} tasks` : "";
  return `Mean of ${count}${many > 1 ? `, ${DATA.interval}` : ""}${points}.`;
}

// A figure on the page. It is made for the room it has, and anew when that changes.
function card(make) {
  let figure = make(FRAME);
  let drawing = null;
  const named = () => fileName("lopbench", table.id, figure.name);
  const tip = element("div", { class: "tip", hidden: "" });
  const larger = button("larger", `${figure.title}: larger`, () => {
    const is = made.classList.toggle("wide");
    larger.textContent = is ? "smaller" : "larger";
    figure = make(is ? roomy(made) : FRAME);
    draw();
  });
  const meaning = DATA.meanings[figure.metric];
  const heading = element("h4", {}, element("span", meaning ? { title: meaning } : {}, ...breakable(figure.heading || figure.title)));
  if (figure.note) heading.append(element("small", {}, figure.note));
  const made = element("figure", {},
    element("figcaption", {}, heading, element("div", { class: "tools" },
      larger,
      button("SVG", `${figure.title}: download as SVG`, () => download(`${named()}.svg`, "image/svg+xml", svgFile(dressed(figure)))),
      button("PDF", `${figure.title}: download as PDF`, () => download(`${named()}.pdf`, "application/pdf", pdfFile(dressed(figure)))),
      button("CSV", `${figure.title}: download as CSV`, () => download(`${named()}.csv`, "text/csv", figure.csv())))),
    tip);

  const tell = (told, at) => {
    tip.hidden = !told;
    if (!told) return;
    tip.replaceChildren(told.head, ...told.lines.map(([line, text]) => element("div", {}, swatch(line), `${line.name} ${text}`)));
    const scale = drawing.getBoundingClientRect().width / figure.width;
    const room = made.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(room, at[0] * scale + 12))}px`;
    const below = drawing.getBoundingClientRect().top - made.getBoundingClientRect().top;
    tip.style.top = `${below + at[1] * scale + 12}px`;
  };
  const pointed = (event) => {
    const box = drawing.getBoundingClientRect();
    return [((event.clientX - box.left) * figure.width) / box.width, ((event.clientY - box.top) * figure.height) / box.height];
  };
  let told = -1;
  const cursor = document.createElementNS(SVG, "path");
  cursor.setAttribute("stroke", onPage("muted"));
  const tellPoint = (index) => {
    told = index;
    const x = figure.place(index);
    cursor.setAttribute("d", `M${x} ${figure.top}V${figure.height - figure.bottom}`);
    drawing.append(cursor);
    tell(figure.tell(index), [x, figure.height - 10]); // below, where it hides nothing of the figure
  };
  const leave = () => {
    cursor.remove();
    tell(null);
  };
  const draw = () => {
    const fresh = toSvg(figure, onPage);
    fresh.setAttribute("role", "img");
    fresh.setAttribute("aria-label", figure.subtitle ? `${figure.subtitle}, ${figure.title}` : figure.title);
    if (drawing) drawing.replaceWith(fresh);
    else made.insertBefore(fresh, tip);
    drawing = fresh;
    told = -1;
    tip.hidden = true;
    drawing.addEventListener("pointermove", (event) => {
      const [x, y] = pointed(event);
      if (figure.near) {
        const found = figure.near(x, y);
        tell(found, found && found.at);
      } else if (figure.tell) {
        let best = 0;
        for (let i = 1; i < figure.count; i += 1) if (Math.abs(figure.place(i) - x) < Math.abs(figure.place(best) - x)) best = i;
        tellPoint(best);
      }
    });
    drawing.addEventListener("pointerleave", leave);
    if (!figure.tell) return;
    drawing.setAttribute("tabindex", "0");
    tip.setAttribute("role", "status");
    drawing.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") leave();
      if (!by) return;
      event.preventDefault();
      tellPoint(Math.max(0, Math.min(figure.count - 1, told + by)));
    });
    drawing.addEventListener("blur", leave);
  };
  draw();
  return made;
}

// -- the figures of the chosen protocol

function drawLayers() {
  const metric = byId("layer-metric").value;
  const figures = byId("layer-view").value === "curves" ? layerFigures : mapFigures;
  byId("layers").replaceChildren(...(metric ? figures(metric).map(card) : []));
}

function draw() {
  assign();
  for (const label of byId("methods").querySelectorAll("label")) {
    const box = label.querySelector("input");
    const mark = box.checked ? swatch(look(box.value)) : swatch({ paint: "rule", dash: [], width: 1 });
    label.querySelector("svg").replaceWith(mark);
  }
  const some = drawn().length > 0;
  const left = table.rows.length - drawn().length;
  byId("figure-note").textContent = some ? `${table.title}. ${spread()}` + (left ? ` ${left} of ${table.rows.length} methods are not drawn.` : "") +
    (Object.keys(table.fresh).length ? " Dashed: fresh networks." : "") : "No method is chosen.";
  byId("curves").replaceChildren(...(some ? table.metrics.filter((metric) => drawn().some((row) => row.curves[metric])).map((metric) => card((area) => curvesFigure(metric, area))) : []));
  const online = table.score;
  const pairs = [["effective_rank", online], ["dead_fraction", online], ["duplicate_fraction", online], ["dead_fraction", "duplicate_fraction", online]];
  byId("scatter").replaceChildren(...pairs.filter((pair) => scatterFigure(pair, FRAME)).map((pair) => card((area) => scatterFigure(pair, area))));
  const points = new Set(table.rows.map((row) => `${row.lr} ${row.method}`));
  const rates = new Set(table.rows.map((row) => row.lr)).size > 1 && points.size === table.rows.length;
  const hasRates = rates && ratesFigure(table.rows, FRAME) !== null;
  byId("rates").hidden = byId("h-rates").hidden = !hasRates;
  byId("rates").replaceChildren(...(hasRates ? [card((area) => ratesFigure(table.rows, area))] : []));
  drawLayers();
}

function show(index) {
  table = DATA.tables[index];
  for (const kept of [rowOf, dashes, chosen]) kept.clear();
  for (const row of table.rows) rowOf.set(row.label, row);
  // Plain learning, then the best row of each method, then the others.
  const seen = new Set();
  const firsts = table.rows.filter((row) => !seen.has(row.method) && seen.add(row.method));
  for (const row of [...firsts.filter((each) => each.method === "none"), ...firsts, ...table.rows]) {
    if (chosen.size < FEW) chosen.add(row.label);
  }
  const boxes = table.rows.map(({ label }) => {
    const box = element("input", { type: "checkbox", value: label, change: () => {
      if (box.checked) chosen.add(label);
      else chosen.delete(label);
      draw();
    } });
    box.checked = chosen.has(label);
    return element("label", {}, box, document.createElementNS(SVG, "svg"), element("span", {}, ...breakable(label)));
  });
  byId("methods").replaceChildren(byId("methods").firstElementChild, ...boxes);
  const metrics = Object.keys(table.layers);
  const before = byId("layer-metric").value;
  byId("layer-metric").replaceChildren(...metrics.map((metric) => element("option", { value: metric, title: DATA.meanings[metric] || "" }, words(metric))));
  const wanted = [before, "dead_fraction"].find((metric) => metrics.includes(metric));
  if (wanted) byId("layer-metric").value = wanted;
  for (const id of ["h-layers", "layer-controls", "layer-note"]) byId(id).hidden = metrics.length === 0;
  draw();
  offerPair();
}

byId("each-seed").addEventListener("change", draw);
for (const id of ["layer-metric", "layer-view"]) {
  byId(id).addEventListener("change", () => {
    drawLayers();
    keepState();
  });
}
byId("protocol").replaceChildren(...DATA.tables.map((each, index) => element("option", { value: index }, each.title)));
byId("protocol").addEventListener("change", (event) => {
  show(Number(event.target.value));
  keepState();
});

