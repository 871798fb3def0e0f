/*
 * The timeline: draws what #data holds as SVG, with text.js, in one function with it.
 * Must never make markup of a name: all text goes through textContent.
 */
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const rounds = data.rounds.map(([seconds, size, count, stopped]) =>
  ({seconds, size, count, stopped}));
const HUES = [212, 28, 150, 330, 264, 188, 96, 48];
const WIDTH = 1000, HEIGHT = 420, LEFT = 78, RIGHT = 16, TOP = 26, BOTTOM = 34;
const peak = rounds.reduce((best, each, place) => each.size > rounds[best].size ? place : best, 0);
const end = rounds[rounds.length - 1].seconds;
let kind = "area", chosen = rounds.length - 1;

// The lines, and what they leave of the total.
const series = data.lines.map((line, number) =>
  ({name: line.name, sizes: line.sizes, hue: HUES[number % HUES.length], others: false}));
series.push({name: "all others", hue: 0, others: true, sizes: rounds.map((each, place) =>
  each.size - data.lines.reduce((sum, line) => sum + (line.sizes[place] || 0), 0))});

// ---- scales --------------------------------------------------------------------

/* Marks of an axis up to `most`, in steps that are easy to read; base is 1024 for bytes. */
function marks(most, wanted, base) {
  let unit = 1;
  while (most / unit >= base * 4) unit *= base;
  const raw = most / unit / wanted, power = 10 ** Math.floor(Math.log10(raw || 1));
  const step = [1, 2, 5, 10].map(each => each * power).find(each => each >= raw) * unit;
  const found = [];
  for (let number = 0; number <= most * 1.0001; number += step) found.push(number);
  return found;
}
const highest = Math.max(1, rounds[peak].size * 1.06);
const x = seconds => LEFT + (end ? seconds / end : 0.5) * (WIDTH - LEFT - RIGHT);
const y = size => HEIGHT - BOTTOM - size / highest * (HEIGHT - TOP - BOTTOM);

function shape(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
const at = (place, size) => x(rounds[place].seconds).toFixed(1) + "," + y(size).toFixed(1);
function path(values) {
  let text = "", pen = "M";
  values.forEach((value, place) => {
    if (value === null) { pen = "M"; return; }
    text += pen + at(place, value);
    pen = "L";
  });
  return text;
}

// ---- the graph -----------------------------------------------------------------

function axes(chart) {
  for (const size of marks(highest, 5, 1024)) {
    chart.append(shape("line", {x1: LEFT, x2: WIDTH - RIGHT, y1: y(size), y2: y(size),
                                class: "grid"}));
    chart.append(shape("text", {x: LEFT - 8, y: y(size) + 4, "text-anchor": "end"},
                       sizeText(size)));
  }
  for (const seconds of marks(end, 8, 60)) {
    chart.append(shape("text", {x: x(seconds), y: HEIGHT - BOTTOM + 20, "text-anchor": "middle"},
                       +seconds.toFixed(3) + " s"));
  }
}

function areas(chart) {
  const below = rounds.map(() => 0);
  for (const each of [...series].reverse()) {
    const low = below.map((size, place) => at(place, size)).reverse();
    each.sizes.forEach((size, place) => { below[place] += size || 0; });
    const high = below.map((size, place) => at(place, size));
    draw(chart, each, "area", "M" + high.join("L") + "L" + low.join("L") + "Z");
  }
}

function draw(chart, each, type, text) {
  const made = shape("path", {d: text, class: type + (each.others ? " others" : ""),
                              style: "--h:" + each.hue});
  made.append(shape("title", {}, each.name));
  chart.append(made);
  each.shape = made;
}

function markPeak(chart) {
  const place = x(rounds[peak].seconds), right = place > WIDTH * 0.75;
  chart.append(shape("circle", {cx: place, cy: y(rounds[peak].size), r: 5, class: "peak"}));
  chart.append(shape("text", {x: place + (right ? -10 : 10), y: y(rounds[peak].size) - 8,
                              "text-anchor": right ? "end" : "start", class: "peak-text"},
                     "peak " + sizeText(rounds[peak].size)));
}

function drawChart() {
  const chart = $("chart");
  chart.replaceChildren();
  axes(chart);
  if (kind === "area") areas(chart);
  else for (const each of series) draw(chart, each, "line", path(each.sizes));
  chart.append(shape("path", {d: path(rounds.map(each => each.size)), class: "total"}));
  markPeak(chart);
  chart.append(shape("line", {id: "cursor", y1: TOP, y2: HEIGHT - BOTTOM}));
  for (const button of document.querySelectorAll("[data-kind]"))
    button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
  choose(chosen);
}

/* Shows the values of one snapshot. */
function choose(place) {
  chosen = Math.max(0, Math.min(rounds.length - 1, place));
  const each = rounds[chosen], cursor = $("cursor");
  cursor.setAttribute("x1", x(each.seconds));
  cursor.setAttribute("x2", x(each.seconds));
  const head = element("p");
  head.append(element("b", "After " + each.seconds.toFixed(1) + " s: " + sizeText(each.size)),
              " in " + countText(each.count) + " blocks");
  if (each.stopped !== null) head.append(", stopped for " + each.stopped.toFixed(1) + " ms");
  if (chosen === peak) head.append(", the peak");
  const parts = element("p");
  series.filter(line => line.sizes[chosen]).forEach((line, number) => {
    const key = element("span", "", "key color" + (line.others ? " others" : ""));
    key.style.setProperty("--h", line.hue);
    parts.append(number ? "   " : "", key, line.name + ": " + sizeText(line.sizes[chosen]));
  });
  $("details").replaceChildren(head, parts);
}

// ---- the table -----------------------------------------------------------------

function drawTable() {
  const head = element("tr");
  for (const [text, kind] of [["Line", "text"], ["First", ""], ["Last", ""], ["Change", ""],
                              ["Highest", ""]]) {
    const cell = element("th", text, kind);
    cell.scope = "col";
    head.append(cell);
  }
  document.querySelector("#lines thead").append(head);
  const body = document.querySelector("#lines tbody");
  for (const each of series) {
    const known = each.sizes.filter(size => size !== null);
    const first = each.sizes[0], last = each.sizes[each.sizes.length - 1];
    const row = element("tr");
    row.tabIndex = 0;
    const name = element("td", undefined, "text");
    const key = element("span", "", "key color" + (each.others ? " others" : ""));
    key.style.setProperty("--h", each.hue);
    name.append(key, each.name);
    const grown = (last || 0) - (first || 0);
    const changed = element("td", undefined, "number");
    changed.append(signed(grown, sizeText(grown, true)));
    row.append(name, element("td", first === null ? "" : sizeText(first), "number"),
               element("td", last === null ? "" : sizeText(last), "number"), changed,
               element("td", sizeText(Math.max(...known)), "number"));
    const only = is => series.forEach(other =>
      other.shape.classList.toggle("faint", is && other !== each));
    row.addEventListener("mouseenter", () => only(true));
    row.addEventListener("mouseleave", () => only(false));
    row.addEventListener("focus", () => only(true));
    row.addEventListener("blur", () => only(false));
    body.append(row);
  }
}

// ---- what the user does ----------------------------------------------------------

function nearest(event) {
  const box = $("chart").getBoundingClientRect();
  const seconds = ((event.clientX - box.left) / box.width * WIDTH - LEFT)
    / (WIDTH - LEFT - RIGHT) * end;
  let best = 0;
  rounds.forEach((each, place) => {
    if (Math.abs(each.seconds - seconds) < Math.abs(rounds[best].seconds - seconds)) best = place;
  });
  return best;
}

function switchKind(to) {
  kind = to;
  drawChart();
}

const KEYS = {ArrowLeft: () => choose(chosen - 1), ArrowRight: () => choose(chosen + 1),
              Home: () => choose(0), End: () => choose(rounds.length - 1),
              p: () => choose(peak), a: () => switchKind(kind === "area" ? "line" : "area")};
$("chart").addEventListener("keydown", event => {
  if (!KEYS[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  KEYS[event.key]();
});
$("chart").addEventListener("pointermove", event => choose(nearest(event)));
for (const button of document.querySelectorAll("[data-kind]"))
  button.addEventListener("click", () => switchKind(button.dataset.kind));

$("main").hidden = false;
$("note").textContent = data.leftOut
  ? data.leftOut + " snapshots were left out; of each two neighbours the larger one stayed." : "";
drawChart();
drawTable();
