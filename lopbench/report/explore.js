// -- rows that are pinned and grouped

function hideEmptyGroups(section) {
  for (const heading of section.querySelectorAll("tbody.group")) {
    let next = heading.nextElementSibling;
    while (next && next.hidden) next = next.nextElementSibling;
    heading.hidden = !next || next.classList.contains("group");
  }
}

// Pinned rows first; then, under a heading each, the rows of one value of what they are grouped by.
function arrange(board) {
  const bodies = Array.from(board.tBodies).filter((body) => body.dataset.key);
  if (!bodies.length) return;
  for (const heading of board.querySelectorAll("tbody.group")) heading.remove();
  const name = byId("group").value;
  const top = bodies.filter((body) => pinned.has(body.dataset.key));
  const rest = bodies.filter((body) => !pinned.has(body.dataset.key)).sort((a, b) => ORDER.get(a) - ORDER.get(b));
  for (const body of bodies) body.classList.toggle("pinned", pinned.has(body.dataset.key));
  const groups = new Map();
  for (const body of rest) {
    const value = name ? valuesOf(ROW.get(body), name)[0] : undefined;
    const text = value === undefined || value === "" ? "–" : String(value);
    groups.set(text, [...(groups.get(text) || []), body]);
  }
  board.append(...top);
  for (const [text, group] of name ? [...groups].sort(([a], [b]) => byValue(a, b)) : groups) {
    if (name) {
      const cell = element("th", { scope: "colgroup", colspan: board.tHead.rows[0].cells.length }, ...breakable(`${name}: ${text}`));
      board.append(element("tbody", { class: "group" }, element("tr", {}, cell)));
    }
    board.append(...group);
  }
  hideEmptyGroups(board);
}

// By letters, and where numbers stand, by their size.
function byValue(a, b) {
  const parts = (text) => text.split(/(\d+(?:\.\d+)?(?:e[+-]?\d+)?)/);
  const [one, other] = [parts(a), parts(b)];
  for (let i = 0; i < Math.min(one.length, other.length); i += 1) {
    const order = i % 2 ? Number(one[i]) - Number(other[i]) : one[i].localeCompare(other[i]);
    if (order) return order;
  }
  return one.length - other.length;
}

const boards = () => document.querySelectorAll(".protocol .board");

function pinButton(body) {
  const label = `Pin ${ROW.get(body).label}`;
  const made = element("button", { type: "button", class: "pin screen", "aria-pressed": "false", "aria-label": label, click: () => {
    if (!pinned.delete(body.dataset.key)) pinned.add(body.dataset.key);
    showPins();
    arrange(body.parentElement);
    filterRows();
    keepState();
  } });
  return made;
}

function showPins() {
  for (const body of ROW.keys()) {
    const is = pinned.has(body.dataset.key);
    const star = body.querySelector(".pin");
    star.setAttribute("aria-pressed", String(is));
    star.textContent = is ? "★" : "☆";
  }
}

for (const body of ROW.keys()) {
  const cell = body.rows[0].cells[0];
  cell.replaceChildren(element("div", { class: "named" }, pinButton(body), ...cell.childNodes));
}
showPins();

// -- what rows differ in

const ALL = DATA.tables.flatMap((each) => each.rows);
const VARIED = Array.from(new Set(ALL.flatMap((row) => Object.keys(row.fields))))
  .filter((name) => new Set(ALL.map((row) => row.fields[name])).size > 1);

byId("group").append(...VARIED.filter((name) => name !== "method").map((name) => element("option", {}, name)));
byId("group").addEventListener("change", () => {
  boards().forEach(arrange);
  filterRows();
  keepState();
});

// -- retention by two factors

const MOST_COLUMNS = 24;

function cellOf(found) {
  const known = found.filter((row) => row.retention[0] !== null);
  if (!known.length) return element("td", {}, "–");
  const values = known.map((row) => row.retention[0]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const made = element("td", { title: known.map((row) => row.label).join("; ") });
  const two = (value) => value.toFixed(2).replace(/^-(0\.00)$/, "$1");
  if (known.length === 1) {
    const [, from, to] = known[0].retention;
    made.append(two(low), ...(from === null ? [] : [element("small", {}, `[${two(from)}, ${two(to)}]`)]));
  } else made.append(`${two(low)} to ${two(high)}`, element("small", {}, `${known.length} rows`));
  const share = Math.round((40 * Math.max(0, Math.min((low + high) / 2, 1.5))) / 1.5);
  made.style.background = `color-mix(in srgb, var(--accent) ${share}%, transparent)`;
  return made;
}

function drawMatrix() {
  const [down, across] = [byId("matrix-rows").value, byId("matrix-columns").value];
  const has = ALL.filter((row) => row.fields[down] !== undefined && row.fields[across] !== undefined);
  const distinct = (name) => Array.from(new Set(has.map((row) => String(row.fields[name])))).sort(byValue);
  const cells = new Map();
  for (const row of has) {
    const key = JSON.stringify([String(row.fields[down]), String(row.fields[across])]);
    cells.set(key, [...(cells.get(key) || []), row]);
  }
  const columns = distinct(across);
  const head = element("tr", {}, element("th", { scope: "col" }, ...breakable(down)), ...columns.map((text) => element("th", { scope: "col" }, ...breakable(text || "–"))));
  const body = distinct(down).map((text) => element("tr", {}, element("th", { scope: "row" }, ...breakable(text || "–")),
    ...columns.map((column) => cellOf(cells.get(JSON.stringify([text, column])) || []))));
  byId("matrix-table").replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
}

{
  const few = VARIED.filter((name) => new Set(ALL.map((row) => row.fields[name])).size <= MOST_COLUMNS);
  const usual = ["scenario", "architecture", "profile", "optimizer"];
  const across = [...usual, ...few].find((name) => few.includes(name) && name !== "method");
  const offered = (names) => names.map((name) => element("option", {}, name));
  byId("matrix-rows").append(...offered(VARIED));
  byId("matrix-columns").append(...offered(few));
  byId("matrix").hidden = byId("to-matrix").hidden = !across || !VARIED.includes("method");
  if (!byId("matrix").hidden) {
    byId("matrix-rows").value = "method";
    byId("matrix-columns").value = across;
    drawMatrix();
  }
  for (const name of ["matrix-rows", "matrix-columns"]) {
    byId(name).addEventListener("change", () => {
      drawMatrix();
      keepState();
    });
  }
}

// -- two methods compared, seed by seed

// The 97.5% quantiles of Student's t with 1 to 30 degrees of freedom; above, an expansion that is right to 0.003.
const STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131,
  2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042];

// Mean and ends of the 95% t interval; the ends are NaN of one value.
function meanInterval(values) {
  const n = values.length;
  const mean = values.reduce((a, b) => a + b, 0) / n;
  if (n < 2) return [mean, NaN, NaN];
  const spreads = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const half = (STUDENT[n - 2] ?? 1.96 + 2.4 / (n - 1)) * Math.sqrt(spreads / (n - 1) / n);
  return [mean, mean - half, mean + half];
}

function pairFigure(a, b, area) {
  const { width, height, left, right, top, bottom } = area;
  const [one, other] = [seedLines(a), seedLines(b)];
  const seeds = [...one.keys()].filter((seed) => other.has(seed));
  const count = Math.ceil(table.tasks / table.span);
  const points = Array.from({ length: count }, (_, i) => meanInterval(seeds.map((seed) => one.get(seed)[i] - other.get(seed)[i])));
  const x = axis([0, table.tasks - 1], left, width - right, { pad: 0.02 });
  x.ticks = x.ticks.filter(Number.isInteger);
  const y = axis([0, ...points.flat()].filter(Number.isFinite), height - bottom, top);
  const marks = frame(x, y, "task", "", area);
  marks.push({ line: [[left, y.place(0)], [width - right, y.place(0)]], ...REFERENCE });
  for (const piece of pieces(points.map(([, low]) => low))) {
    const edge = (end, indices) => indices.map((i) => [x.place(middle(i)), y.place(points[i][end])]);
    if (piece.length > 1) marks.push({ area: [...edge(1, piece), ...edge(2, [...piece].reverse())], paint: "accent", alpha: 0.16 });
  }
  for (const piece of pieces(points.map(([mean]) => mean))) {
    const line = piece.map((i) => [x.place(middle(i)), y.place(points[i][0])]);
    if (line.length > 1) marks.push({ line, paint: "accent", width: 1.6 });
  }
  const name = `${words(table.score)}: ${a.label} minus ${b.label}`;
  const whole = { name, paint: "accent", dash: [], width: 1.6 };
  const told = ([mean, low, high]) => number(mean) + (Number.isFinite(low) ? ` [${number(low)}, ${number(high)}]` : "");
  return {
    name: fileName("difference", a.label, b.label), title: name, heading: `${words(table.score)}, first minus second`, metric: table.score,
    width, height, marks, lines: [whole], count, top, bottom,
    place: (index) => x.place(middle(index)),
    tell: (index) => ({ head: taskText(index), lines: Number.isFinite(points[index][0]) ? [[{ ...whole, name: "" }, told(points[index])]] : [] }),
    csv: () => csv([
      ["first", "second", "first_task", "last_task", "metric", "difference", "low", "high", "seeds"],
      ...points.map((point, i) => [a.label, b.label, ...tasksOf(i), table.score, ...point, seeds.length]),
    ]),
  };
}

function drawPair() {
  const find = (id) => table.rows.find((row) => row.key === byId(id).value);
  const [a, b] = [find("pair-a"), find("pair-b")];
  const known = (row) => Object.keys(row.paired).filter((seed) => row.paired[seed] !== null);
  const seeds = a && b ? known(a).filter((seed) => known(b).includes(seed)) : [];
  const [mean, low, high] = meanInterval(seeds.map((seed) => a.paired[seed] - b.paired[seed]));
  const said = !a || !b ? "" : seeds.length === 0 ? "They have no seed in common." :
    `Retention, ${a.label} minus ${b.label}: ${number(mean)}` +
    (Number.isFinite(low) ? ` [${number(low)}, ${number(high)}]` : "") +
    `, mean of ${seeds.length} seed${seeds.length > 1 ? "s" : ""} in common` +
    (Number.isFinite(low) ? "; 95% t interval of the paired differences, for this pair alone." : ".");
  byId("pair-text").replaceChildren(...breakable(said));
  const lines = a && b && a.lines && b.lines && a.runs.some(([seed]) => b.runs.some(([other]) => other === seed));
  byId("pair").replaceChildren(...(lines ? [card((area) => pairFigure(a, b, area))] : []));
}

// The rows of the chosen protocol: at first the best beside plain learning, or beside the next.
function offerPair() {
  const several = table.rows.length > 1;
  byId("h-pair").hidden = byId("pair").hidden = byId("pair-text").hidden = byId("pair-a").closest(".controls").hidden = !several;
  for (const id of ["pair-a", "pair-b"]) {
    byId(id).replaceChildren(...table.rows.map((row) => element("option", { value: row.key }, row.label)));
  }
  if (!several) return;
  const [first, next] = table.rows.filter((row) => row.method !== "reset");
  const plain = table.rows.find((row) => row.method === "none" && row !== first);
  byId("pair-a").value = (first || table.rows[0]).key;
  byId("pair-b").value = (plain || next || table.rows[1]).key;
  drawPair();
}

for (const id of ["pair-a", "pair-b"]) {
  byId(id).addEventListener("change", () => {
    drawPair();
    keepState();
  });
}

// -- the state of the page, which a link keeps: what is filtered, grouped, pinned and compared

const KEPT = { filter: "filter", track: "track", group: "group", rows: "matrix-rows", columns: "matrix-columns", protocol: "protocol", first: "pair-a", second: "pair-b", metric: "layer-metric", layers: "layer-view" };
const USUAL = {};

function keepState() {
  const found = new URLSearchParams();
  for (const [name, id] of Object.entries(KEPT)) {
    const value = name === "protocol" ? table.id : byId(id).value;
    if (value !== USUAL[name]) found.set(name, value);
  }
  if (pinned.size) found.set("pin", Array.from(pinned).join(" "));
  const text = found.toString();
  if (text || location.hash.includes("=")) location.replace(`#${text || "="}`);
}

function restoreState() {
  const found = new URLSearchParams(location.hash.slice(1));
  const choose = (id, value) => {
    const box = byId(id);
    if (box.tagName === "INPUT" || Array.from(box.options).some((option) => option.value === value)) box.value = value;
  };
  const place = DATA.tables.findIndex((each) => each.id === found.get("protocol"));
  if (place >= 0) {
    byId("protocol").value = place;
    show(place);
  }
  for (const [name, id] of Object.entries(KEPT)) if (name !== "protocol" && found.has(name)) choose(id, found.get(name));
  for (const key of (found.get("pin") || "").split(" ")) if (ALL.some((row) => row.key === key)) pinned.add(key);
  showPins();
  boards().forEach(arrange);
  if (!byId("matrix").hidden) drawMatrix();
  if (table.rows.length > 1) drawPair();
  drawLayers();
  filterRows();
}

byId("link").addEventListener("click", () => {
  keepState();
  const said = (text) => { byId("link").textContent = text; };
  if (navigator.clipboard) navigator.clipboard.writeText(location.href).then(() => said("Link copied"), () => said("The address has it"));
  else said("The address has it");
});

show(0); // the protocol under which most was measured
for (const [name, id] of Object.entries(KEPT)) USUAL[name] = name === "protocol" ? table.id : byId(id).value;
if (location.hash.includes("=")) restoreState();
