/*
 * Text for a page: sizes, counts, changes, and elements made of them.  Must never
 * make markup of a name: all text goes through textContent.
 */
function sizeText(size, sign) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  for (const unit of units) {
    const plus = sign && size >= 0 ? "+" : "";
    if (Math.abs(size) < 100 && unit !== "B") return plus + size.toFixed(1) + " " + unit;
    if (Math.abs(size) < 10 * 1024 || unit === "TiB") return plus + size.toFixed(0) + " " + unit;
    size /= 1024;
  }
}
const countText = (count, sign) => (sign && count >= 0 ? "+" : "") + count.toLocaleString("en-US");
const percent = (part, whole) => whole ? (100 * part / whole).toFixed(1) + " %" : "";
const minus = text => text.replace(/-/g, "\u2212");

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
function change(number, text) {
  return element("span", minus(text), number > 0 ? "up" : number < 0 ? "down" : "");
}
function signed(number, text) {  // in tables, where nothing says that nothing changed
  return element("span", number ? minus(text) : "", number > 0 ? "up" : "down");
}

