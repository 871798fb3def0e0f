/*
 * The report's graph, and what the user does: draws what #data holds, with text.js
 * and report_tables.js, in one function with them.  Must never make markup of a
 * name: all text goes through textContent.
 */
const data = JSON.parse(document.getElementById("data").textContent);
const compared = data.old !== null;
const state = {unit: 0, by: "function", inverted: 0, change: 0, table: "line", query: "",
               sort: null, ascending: false, all: false};
const ROW = 22, THINNEST = 2, ROWS_AT_FIRST = 50;
const $ = id => document.getElementById(id);

const unitText = (number, sign) => state.unit ? countText(number, sign) + " blocks"
  : sizeText(number, sign);

// ---- frames --------------------------------------------------------------------

const frames = data.frames.map(([name, file, line, module, source, flags]) => {
  const frame = {name: data.names[name], file: data.names[file], line,
                 module: module < 0 ? null : data.names[module],
                 source: source < 0 ? "" : data.lines[source], inlined: (flags & 1) > 0,
                 hasName: !(flags & 2), hasLine: (flags & 4) > 0,
                 folded: (flags & 8) > 0};
  if (frame.folded) return Object.assign(frame, {place: "", full: frame.name, module: ""});
  frame.place = frame.hasLine ? frame.file + ":" + line : frame.file;
  const home = frame.hasLine ? frame.file : frame.module;
  frame.full = !frame.hasName && !home ? "<unknown>"
    : (frame.hasName ? frame.name : "??") + (home ? " (" + home + ")" : "");
  return frame;
});
const short = file => file.split("/").pop();
const keysOf = {
  line: frame => frame.name + "\n" + frame.place + "\n" + frame.module,
  function: frame => frame.hasName ? frame.full + "\n" + frame.module : "\n" + frame.place,
};
const tableKeys = {line: frame => frame.place, function: frame => frame.full,
                   module: frame => frame.module || "<unknown>"};

function numbered(key) {
  const numbers = new Map();
  return frames.map(frame => {
    const text = key(frame);
    if (!numbers.has(text)) numbers.set(text, numbers.size);
    return numbers.get(text);
  });
}

const parentOf = node => data.nodes[2 * node + 1] ? node - data.nodes[2 * node + 1] : -1;
const paths = [];  // the frames from the oldest on, and the values, of each that has blocks
for (let at = 0, node = 0, width = compared ? 5 : 3; at < data.values.length; at += width) {
  const values = data.values.slice(at + 1, at + width), path = [];
  node += data.values[at];
  for (let each = node; each >= 0; each = parentOf(each)) path.push(data.nodes[2 * each]);
  paths.push({frames: path.reverse(), values: compared ? values : [...values, 0, 0]});
}

// ---- the tree --------------------------------------------------------------------

let root, zoomed, drawn = [], narrowBoxes = [], byElement = new Map(), current = null;

const makeNode = (frame, parent) => ({frame, parent, depth: parent ? parent.depth + 1 : 0,
  values: [0, 0, 0, 0], self: [0, 0, 0, 0], weight: 0, children: new Map()});

function weightOf(values) {
  const now = values[state.unit], before = values[state.unit + 2];
  return state.change ? Math.abs(now - before) : Math.max(now, before);
}

function buildTree() {
  const keys = numbered(keysOf[state.by]);
  root = makeNode(null, null);
  for (const path of paths) {
    const weight = weightOf(path.values);
    const order = state.inverted ? path.frames.slice().reverse() : path.frames;
    let node = root;
    const add = () => {
      path.values.forEach((value, place) => { node.values[place] += value; });
      node.weight += weight;
    };
    add();
    for (const frame of order) {
      if (!node.children.has(keys[frame])) {
        node.children.set(keys[frame], makeNode(frames[frame], node));
      }
      node = node.children.get(keys[frame]);
      add();
    }
    path.values.forEach((value, place) => { node.self[place] += value; });
  }
  const stack = [root];
  while (stack.length) {
    const node = stack.pop();
    node.children = [...node.children.values()].sort((a, b) => b.weight - a.weight);
    stack.push(...node.children);
  }
}

const label = node => node.frame === null ? "all"
  : state.by === "line" && node.frame.hasLine && node.frame.hasName
    ? node.frame.name + " (" + short(node.frame.file) + ":" + node.frame.line + ")"
    : node.frame.name;
const matches = node => node.frame !== null && !node.frame.folded && frameMatches(node.frame);
const frameMatches = frame => state.query !== "" && (frame.name.toLowerCase().includes(state.query)
  || frame.place.toLowerCase().includes(state.query)
  || (frame.module || "").toLowerCase().includes(state.query));

function hue(text) {
  let hash = 7;
  for (const letter of text) hash = (hash * 31 + letter.codePointAt(0)) | 0;
  return ((hash % 997) + 997) % 997 * 137.5 % 360;
}

function paint(box, node) {
  if (node.frame !== null && node.frame.folded) box.classList.add("folded");
  if (!compared) {
    box.style.setProperty("--h", node.frame === null ? 210 : hue(node.frame.module || "")
      + (hue(node.frame.name) % 34) - 17);
    return;
  }
  const change = node.values[state.unit] - node.values[state.unit + 2];
  const most = Math.max(node.values[state.unit], node.values[state.unit + 2]);
  if (change === 0) {
    box.classList.add("plain");
    return;
  }
  box.classList.add("diff");
  box.style.setProperty("--h", change > 0 ? 8 : 215);
  box.style.setProperty("--k", Math.min(1, 0.25 + 0.75 * Math.abs(change) / most).toFixed(3));
}

function spoken(node) {
  const now = node.values[state.unit];
  let text = label(node) + ", " + unitText(now) + ", "
    + percent(now, data.snapshot[state.unit ? "count" : "size"]);
  if (compared) text += ", " + unitText(now - node.values[state.unit + 2], true);
  return text;
}

function place(node, left, width, above) {
  const box = element("div", "", "frame");
  const pixels = width * $("graph").clientWidth;
  if (pixels > 26) {
    box.textContent = label(node);
    if (compared && pixels > 170) {
      const change = node.values[state.unit] - node.values[state.unit + 2];
      if (change) box.append(element("span", " " + minus(unitText(change, true)), "self"));
    } else if (pixels > 170) {
      box.append(element("span", " " + unitText(node.values[state.unit]), "self"));
    }
  } else {
    box.classList.add("thin");
  }
  box.style.left = (left * 100).toFixed(4) + "%";
  box.style.width = (width * 100).toFixed(4) + "%";
  box.style.top = node.depth * ROW + "px";
  box.tabIndex = -1;
  box.setAttribute("role", "treeitem");
  box.setAttribute("aria-level", node.depth + 1);
  box.setAttribute("aria-label", spoken(node));
  if (above) box.classList.add("above");
  if (matches(node)) box.classList.add("match");
  paint(box, node);
  node.box = box;
  byElement.set(box, node);
  drawn.push(node);
}

function placeNarrow(parent, count, left, width) {
  const text = count === 1 ? "1 smaller" : countText(count) + " smaller";
  const shown = width * $("graph").clientWidth > 26;
  const box = element("div", shown ? text : "", "frame plain narrow" + (shown ? "" : " thin"));
  box.style.left = (left * 100).toFixed(4) + "%";
  box.style.width = (width * 100).toFixed(4) + "%";
  box.style.top = (parent.depth + 1) * ROW + "px";
  box.title = text + ", too narrow to be drawn: zoom in on " + label(parent);
  narrowBoxes.push(box);
}

function draw() {
  for (const node of drawn) node.box = null;
  drawn = [];
  narrowBoxes = [];
  byElement = new Map();
  const graph = $("graph");
  const least = THINNEST / Math.max(graph.clientWidth, 300);
  for (let node = zoomed.parent; node; node = node.parent) place(node, 0, 1, true);
  drawn.reverse();
  const stack = [[zoomed, 0, 1]];
  let deepest = zoomed.depth;
  while (stack.length) {
    const [node, left, width] = stack.pop();
    place(node, left, width, false);
    deepest = Math.max(deepest, node.depth);
    const next = [];
    let at = left, narrow = 0;
    node.children.forEach((child, number) => {
      const share = zoomed.weight ? child.weight / zoomed.weight : 0;
      if (share < least) {  // so are those that follow: they are sorted
        narrow += share;
        if (number === node.children.length - 1 && narrow >= least) {
          placeNarrow(node, number + 1 - next.length, at, narrow);
          deepest = Math.max(deepest, node.depth + 1);
        }
        return;
      }
      next.push([child, at, share]);
      at += share;
    });
    stack.push(...next.reverse());  // a reader's order: a frame, what is below it, the next one
  }
  graph.replaceChildren(...drawn.map(node => node.box), ...narrowBoxes);
  graph.style.height = (deepest + 1) * ROW + "px";
  graph.classList.toggle("searching", state.query !== "");
  $("reset").disabled = zoomed === root;
  if (!current || !current.box) current = zoomed;
  current.box.tabIndex = 0;
  details(current);
}

function details(node) {
  const pane = $("details"), unit = state.unit, frame = node.frame;
  const total = data.snapshot.size, count = data.snapshot.count, values = node.values;
  const head = element("p");
  head.append(element("b", frame === null ? "all" : frame.name));
  if (frame && frame.inlined) head.append(" (inlined)");
  const lines = [head];
  if (frame && frame.folded) {
    lines.push(element("p", "Calls that are too small to be shown one by one: each holds at most "
      + foldedShare() + " of the bytes and of the blocks.", "quiet"));
  } else if (frame) {
    const where = element("p");
    where.append(element("code", state.by === "line" || !frame.hasLine ? frame.place
      : frame.file));
    if (frame.module && frame.hasLine) where.append(element("span", "  in " + frame.module, "quiet"));
    lines.push(where);
    if (frame.source && state.by === "line") lines.push(element("p", frame.source, "code"));
  }
  const figures = element("p");
  figures.append(sizeText(values[0]) + " (" + (percent(values[0], total) || "0 %") + ") in "
    + countText(values[1]) + " blocks (" + (percent(values[1], count) || "0 %") + ")");
  if (frame && !frame.folded && node.self[unit] && node.self[unit] !== values[unit]) {
    figures.append(", of which " + sizeText(node.self[0]) + " in " + countText(node.self[1])
      + " blocks " + (state.inverted ? "called from no known frame" : "allocated here"));
  }
  if (compared && values[0] === values[2] && values[1] === values[3]) {
    figures.append("; unchanged");
  } else if (compared) {
    figures.append("; change ", change(values[0] - values[2], sizeText(values[0] - values[2], true)),
      ", ", change(values[1] - values[3], countText(values[1] - values[3], true) + " blocks"));
  }
  lines.push(figures);
  pane.replaceChildren(...lines);
}

function zoom(node) {
  zoomed = node;
  current = node;
  draw();
  current.box.focus({preventScroll: true});
}

function search() {
  let sum = 0, found = 0;
  const stack = [[root, false]];
  while (stack.length && state.query) {
    const [node, inside] = stack.pop();
    const hit = matches(node);
    if (hit) found += 1;
    if (hit && !inside) sum += node.values[state.unit];
    for (const child of node.children) stack.push([child, inside || hit]);
  }
  $("found").textContent = state.query ? found + (found === 1 ? " frame, " : " frames, ")
    + unitText(sum) + " (" + (percent(sum, root.values[state.unit]) || "0 %") + ")" : "";
  draw();
  table();
}

// ---- what the user does ----------------------------------------------------------------

function press() {
  for (const button of document.querySelectorAll("button[data-set]")) {
    button.setAttribute("aria-pressed", String(state[button.dataset.set]) === button.dataset.value);
  }
  $("width-says").textContent = (state.unit ? "blocks" : "bytes")
    + (state.change ? " that came or went" : ", the larger of before and after");
}

function set(name, value) {
  state[name] = /^\d$/.test(value) ? Number(value) : value;
  press();
  if (name === "table") {
    state.all = false;
    table();
    return;
  }
  buildTree();
  zoomed = root;
  current = null;
  search();
}

function setQuery(text) {
  $("search").value = text;
  state.query = text.trim().toLowerCase();
  search();
}

function move(key) {
  const siblings = current.parent ? current.parent.children.filter(node => node.box) : [current];
  const at = siblings.indexOf(current);
  const target = key === "ArrowUp" ? current.parent
    : key === "ArrowDown" ? current.children.find(node => node.box)
    : key === "ArrowLeft" ? siblings[at - 1] : siblings[at + 1];
  if (target && target.box) target.box.focus();
}

document.body.classList.toggle("comparing", compared);
document.addEventListener("click", event => {
  const button = event.target.closest("button[data-set]");
  if (button) set(button.dataset.set, button.dataset.value);
});
$("graph").addEventListener("click", event => {
  const node = byElement.get(event.target.closest(".frame"));
  if (node) zoom(node === zoomed && node.parent ? node.parent : node);
});
$("graph").addEventListener("mouseover", event => {
  const node = byElement.get(event.target.closest(".frame"));
  if (node) details(node);
});
$("graph").addEventListener("mouseleave", () => details(current));
$("graph").addEventListener("focusin", event => {
  const node = byElement.get(event.target);
  if (!node) return;
  if (current && current.box) current.box.tabIndex = -1;
  current = node;
  node.box.tabIndex = 0;
  details(node);
});
$("graph").addEventListener("keydown", event => {
  if (event.key.startsWith("Arrow")) move(event.key);
  else if (event.key === "Enter" || event.key === " ") zoom(current);
  else if (event.key === "Home") zoom(root);
  else return;
  event.preventDefault();
});
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.tagName === "INPUT";
  if (event.key === "Escape") {
    if (typing && state.query) setQuery("");
    else if (zoomed !== root) zoom(event.shiftKey ? root : zoomed.parent);
  } else if (typing) {
    return;
  } else if (event.key === "/") {
    $("search").focus();
    $("search").select();
  } else if (event.key === "i") {
    set("inverted", String(1 - state.inverted));
  } else if (event.key === "b") {
    set("unit", String(1 - state.unit));
  } else {
    return;
  }
  event.preventDefault();
});
$("search").addEventListener("input", () => {
  state.query = $("search").value.trim().toLowerCase();
  search();
});
$("reset").addEventListener("click", () => zoom(root));
$("more").addEventListener("click", () => {
  state.all = !state.all;
  table();
});
let waiting = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(draw);
});

$("main").hidden = false;
figures();
sizes();
set("unit", "0");
