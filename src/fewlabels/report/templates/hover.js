// Values under the pointer: the nearest place on the x axis, and what each line has there.
"use strict";
(() => {
  const MOST = 14;  // lines that are listed
  const NEAR = 12;  // points, within which a line that has no value at the place itself shows its nearest
  const SVG = "http://www.w3.org/2000/svg";
  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;

  const share = (value, [low, high], log) => log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  const number = value => Math.abs(value) >= 1000 ? value.toLocaleString("en") : Math.abs(value) >= 1
    ? value.toFixed(2) : value === 0 ? "0" : value.toPrecision(3);

  function text(tag, words, parent, style) {
    const node = parent.appendChild(document.createElement(tag));
    node.textContent = words;
    if (style) Object.assign(node.style, style);
    return node;
  }

  function spread(line, i) {
    if (line.std && line.std[i]) return ` ± ${number(line.std[i])}`;
    return line.low ? ` (${number(line.low[i])} to ${number(line.high[i])})` : "";
  }

  for (const figure of document.querySelectorAll("figure[data-panels]")) {
    const svg = figure.querySelector("svg"), data = JSON.parse(figure.dataset.panels);
    let marks = null;

    const hide = () => { tip.hidden = true; if (marks) marks.remove(); marks = null; };

    function show(event) {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      hide();
      const panel = data.panels.find(({box: [l, t, r, b]}) => at.x >= l - 4 && at.x <= r + 4 && at.y >= t - 4 && at.y <= b + 4);
      if (!panel) return;
      const [left, top, right, bottom] = panel.box;
      const toX = x => left + share(x, panel.x, panel.log[0]) * (right - left);
      const toY = y => bottom - share(y, panel.y, panel.log[1]) * (bottom - top);
      let place = null;
      for (const line of panel.lines) for (const x of data.xs[line.x])
        if (place === null || Math.abs(toX(x) - at.x) < Math.abs(toX(place) - at.x)) place = x;
      const rows = [];
      for (const line of panel.lines) {
        const xs = data.xs[line.x], whole = xs.length === 2 && line.y[0] === line.y[1] && xs[0] === panel.x[0];
        const i = whole ? 0 : xs.reduce((best, x, k) => Math.abs(toX(x) - toX(place)) < Math.abs(toX(xs[best]) - toX(place)) ? k : best, 0);
        const x = whole ? place : xs[i];
        if (Math.abs(toX(x) - toX(place)) <= NEAR && line.y[i] !== null) rows.push({line, i, x, y: line.y[i]});
      }
      if (!rows.length) return;
      marks = svg.appendChild(document.createElementNS(SVG, "g"));
      const rule = marks.appendChild(document.createElementNS(SVG, "path"));
      rule.setAttribute("d", `M${toX(place)} ${top}V${bottom}`);
      rule.setAttribute("class", "rule-line");
      for (const {line, x, y} of rows) {
        const height = toY(y);
        if (!(height >= top - 1 && height <= bottom + 1)) continue;
        const dot = marks.appendChild(document.createElementNS(SVG, "circle"));
        for (const [key, value] of Object.entries({cx: toX(x), cy: height, r: 2.6, fill: line.colour}))
          dot.setAttribute(key, value);
      }
      tip.replaceChildren();
      text("b", `${panel.labels[0]} ${panel.ticks[place] ?? place.toLocaleString("en")}`, tip);
      const near = rows.sort((a, b) => Math.abs(toY(a.y) - at.y) - Math.abs(toY(b.y) - at.y)).slice(0, MOST);
      for (const {line, i, x, y} of near.sort((a, b) => b.y - a.y)) {
        const row = text("div", "", tip);
        text("span", "● ", row, {color: line.colour});
        text("span", `${line.name}: ${number(y)}${spread(line, i)}${x === place ? "" : `, at ${x.toLocaleString("en")}`}`, row);
      }
      if (rows.length > MOST) text("div", `and ${rows.length - MOST} more`, tip);
      tip.hidden = false;
      const {offsetWidth: w, offsetHeight: h} = tip;
      const x = event.clientX + 14 + w > innerWidth ? event.clientX - 14 - w : event.clientX + 14;
      tip.style.left = `${Math.max(4, x)}px`;
      tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - h - 4))}px`;
    }

    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", hide);
  }
})();
