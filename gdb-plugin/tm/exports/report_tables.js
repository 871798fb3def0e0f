/*
 * The report's tables, histogram and figures.  Must never make markup of a name:
 * all text goes through textContent.
 */
const tableCache = {};
function tableRows(kind) {
  return tableCache[kind] = tableCache[kind]
    || withAverages(data.folded ? givenRows(kind) : addedRows(kind));
}

function givenRows(kind) {  // of all calls, those that are folded in the graph too
  const {rows, others} = data.folded.tables[kind];
  const made = rows.map(([number, size, count, before, countBefore, under]) => (
    {frame: frames[number], text: kind === "line" ? frames[number].place : frames[number].file,
     size, count, before, countBefore, under, members: new Set([frames[number]])}));
  if (others[0]) {
    made.push({frame: {hasName: false, source: ""}, members: new Set(), size: others[1],
               text: countText(others[0]) + (others[0] === 1 ? " other" : " others"),
               count: others[2], before: others[3], countBefore: others[4], under: null});
  }
  return made;
}

function withAverages(rows) {
  for (const row of rows) {
    row.average = row.count ? row.size / row.count : 0;
    row.change = row.size - row.before;
    row.countChange = row.count - row.countBefore;
  }
  return rows;
}

function addedRows(kind) {
  const keys = numbered(tableKeys[kind]), rows = new Map();
  const rowOf = number => {
    const key = keys[number];
    if (!rows.has(key)) {
      rows.set(key, {frame: frames[number], text: tableKeys[kind](frames[number]),
                     size: 0, count: 0, under: 0, before: 0, countBefore: 0, members: new Set()});
    }
    rows.get(key).members.add(frames[number]);
    return rows.get(key);
  };
  for (const path of paths) {
    const [size, count, before, countBefore] = path.values;
    const recent = rowOf(path.frames[path.frames.length - 1]);
    recent.size += size;
    recent.count += count;
    recent.before += before;
    recent.countBefore += countBefore;
    for (const row of new Set(path.frames.map(rowOf))) row.under += size;
  }
  return [...rows.values()];
}

const COLUMNS = [
  {key: "size", head: "Size", show: row => sizeText(row.size), bar: true},
  {key: "change", head: "\u00b1 Size", show: row => signed(row.change, sizeText(row.change, true)),
   compared: true, by: row => Math.abs(row.change)},
  {key: "count", head: "Blocks", show: row => countText(row.count)},
  {key: "countChange", head: "\u00b1 Blocks", compared: true,
   show: row => signed(row.countChange, countText(row.countChange, true)),
   by: row => Math.abs(row.countChange)},
  {key: "average", head: "Average", show: row => row.count ? sizeText(row.average) : ""},
  {key: "under", head: "With callees", show: row => row.under === null ? "" : sizeText(row.under),
   title: "Bytes allocated here and in everything called from here"},
  {key: "text", head: "Where", text: true, show: row => row.text},
  {key: "source", head: "Source", text: true, lines: true, show: row => row.frame.source},
];

function table() {
  const sort = state.sort || (compared ? "change" : "size");
  const columns = COLUMNS.filter(column => (compared || !column.compared)
    && (!column.lines || (state.table === "line" && data.lines.length)));
  const chosen = columns.find(column => column.key === sort) || columns[0];
  const heads = element("tr");
  for (const column of columns) {
    const head = element("th", undefined, column.text ? "text" : "");
    const button = element("button", column.head);
    button.type = "button";
    if (column.title) button.title = column.title;
    head.scope = "col";
    head.dataset.key = column.key;
    head.setAttribute("aria-sort", column !== chosen ? "none"
      : state.ascending ? "ascending" : "descending");
    button.addEventListener("click", () => {
      state.ascending = column === chosen ? !state.ascending : Boolean(column.text);
      state.sort = column.key;
      table();
      $("table").querySelector(`th[data-key="${column.key}"] button`).focus();
    });
    head.append(button);
    heads.append(head);
  }
  const value = chosen.by || (row => chosen.key === "source" ? row.frame.source : row[chosen.key]);
  const order = (a, b) => {
    if (!a.members.size !== !b.members.size) return a.members.size ? -1 : 1;  // others: last
    const [x, y] = [value(a), value(b)];
    const sign = x < y ? -1 : x > y ? 1 : 0;
    return (state.ascending ? sign : -sign) || b.size - a.size || b.under - a.under
      || (a.text < b.text ? -1 : 1);
  };
  const rows = tableRows(state.table)
    .filter(row => !state.query || [...row.members].some(frameMatches)).sort(order);
  const largest = Math.max(1, ...rows.map(row => row.members.size ? row.size : 0));
  const others = rows.filter(row => !row.members.size);
  const shown = state.all || rows.length <= ROWS_AT_FIRST ? rows
    : rows.slice(0, ROWS_AT_FIRST).concat(others);
  const body = shown.map(row => {
    const line = element("tr");
    for (const column of columns) {
      const cell = element("td", undefined, column.key === "source" ? "text source code"
        : column.text ? "text" : "number");
      cell.append(column.show(row));
      if (column.bar) {
        cell.classList.add("bar");
        cell.style.setProperty("--f", row.members.size ? (row.size / largest).toFixed(4) : 0);
      }
      line.append(cell);
    }
    if (row.members.size) line.addEventListener("click", () => setQuery(state.table === "function" && row.frame.hasName
      ? row.frame.name : row.text));
    return line;
  });
  $("table").tHead.replaceChildren(heads);
  $("table").tBodies[0].replaceChildren(...body);
  $("more").hidden = rows.length <= ROWS_AT_FIRST;
  $("more").textContent = state.all ? "Show the first " + ROWS_AT_FIRST
    : "Show all " + countText(rows.length);
}

function bars(table, heads, rows, largest) {
  const head = element("tr");
  heads.forEach((text, place) => head.append(element("th", text, place ? "" : "text")));
  head.append(element("th"));
  table.append(element("thead"), element("tbody"));
  table.tHead.append(head);
  for (const [cells, share, title] of rows) {
    const line = element("tr");
    cells.forEach((cell, place) => {
      const made = element("td", undefined, place ? "number" : "text");
      made.append(cell);
      line.append(made);
    });
    const bar = element("i");
    bar.style.setProperty("--f", largest ? (share / largest).toFixed(4) : 0);
    bar.title = title;
    const cell = element("td", undefined, "graph");
    if (share) cell.append(bar);
    line.append(cell);
    table.tBodies[0].append(line);
  }
}

function sizes() {
  const now = new Map(data.sizes.map(each => [each[0], each]));
  const before = new Map((data.old_sizes || []).map(each => [each[0], each]));
  const lows = [...new Set([...now.keys(), ...before.keys()])].sort((a, b) => a - b);
  let largest = 0;
  const rows = lows.map(low => {
    const [, high, count, size] = now.get(low) || before.get(low).slice(0, 2).concat(0, 0);
    largest = Math.max(largest, size);
    const range = low === high ? sizeText(low) : low >= 10240
      ? sizeText(low) + " \u2013 < " + sizeText(high + 1) : low + " \u2013 " + high + " B";
    const cells = [range, countText(count), sizeText(size)];
    if (compared) {
      const [, , oldCount, oldSize] = before.get(low) || [0, 0, 0, 0];
      cells.push(signed(count - oldCount, countText(count - oldCount, true)),
                 signed(size - oldSize, sizeText(size - oldSize, true)));
    }
    return [cells, size, percent(size, data.snapshot.size)];
  });
  bars($("sizes"), ["Size of a block", "Blocks", "Bytes"]
    .concat(compared ? ["\u00b1 Blocks", "\u00b1 Bytes"] : []), rows, largest);
  bars($("domains"), ["Domain", "Bytes", "Blocks"], data.domains.map(([name, size, count]) =>
    [[name, sizeText(size), countText(count)], size, percent(size, data.snapshot.size)]),
    Math.max(0, ...data.domains.map(each => each[1])));
  $("domains-section").hidden = data.domains.length < 2;
}

const foldedShare = () => (100 * data.folded.share).toPrecision(2) + " %";
function foldedText() {
  if (!data.folded) return "";
  const {paths, sums} = data.folded;
  return "To keep the report small, " + countText(paths) + " call paths that hold at most "
    + foldedShare() + " of the bytes and of the blocks each are folded into \u201csmaller"
    + " calls\u201d: " + sizeText(sums[0]) + " in " + countText(sums[1])
    + " blocks. Totals and tables count all. ";
}

function figures() {
  const {size, count, tracebacks, limit, cut} = data.snapshot;
  const cards = [["Live", sizeText(size), percent(0, 0)], ["Blocks", countText(count)],
    ["Average block", count ? sizeText(size / count) : "\u2013"],
    ["Tracebacks", countText(tracebacks)]];
  if (compared) {
    let {grown, shrunk} = data.folded ? data.folded.tables.line : {grown: 0, shrunk: 0};
    for (const row of data.folded ? [] : tableRows("line")) {
      if (row.change > 0) grown += row.change; else shrunk += row.change;
    }
    cards.splice(0, 2,
      ["Live", sizeText(size), signed(size - data.old.size, sizeText(size - data.old.size, true))],
      ["Blocks", countText(count), signed(count - data.old.count,
                                          countText(count - data.old.count, true))],
      ["Lines that grew", grown ? signed(1, sizeText(grown, true)) : "0 B"],
      ["Lines that shrank", shrunk ? signed(-1, sizeText(shrunk, true)) : "0 B"]);
  }
  for (const [head, text, more] of cards) {
    const card = element("div"), figure = element("dd");
    figure.append(text);
    if (more) {
      const extra = element("small", " ");
      extra.append(more);
      figure.append(extra);
    }
    card.append(element("dt", head), figure);
    $("figures").append(card);
  }
  $("note").textContent = (data.snapshot.note ? data.snapshot.note + " " : "") + foldedText()
    + (cut ? "The tracebacks of " + countText(cut) + " of "
    + countText(count) + " blocks were cut at " + limit + (limit === 1 ? " frame" : " frames")
    + ": what called the oldest one is not known. " : "")
    + (data.snapshot.dropped ? countText(data.snapshot.dropped)
      + " records were dropped for lack of memory: this is not all." : "");
}

