"use strict";
// A small line chart: values over rounds, a line a site. Its text is set as text, its colours come from the style sheet.
const SVG = "http://www.w3.org/2000/svg";
const CHART = { height: 210, left: 46, right: 12, top: 10, bottom: 34, dots: 30 };

function shape(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Round numbers that span low to high in about `count` steps.
function ticks(low, high, count, least) {
  const raw = Math.max((high - low) / count, least);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(item => item >= raw * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) found.push(at * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return found.map(value => ({ value, text: value.toFixed(digits).replace("-", "\u2212") }));
}

// `lines`: { name, style, points: [[round, value or null], ...] }. Null when there is no value at all.
function chart(lines, last, width, label) {
  const values = lines.flatMap(line => line.points.map(point => point[1])).filter(value => value !== null);
  if (!values.length) return null;
  let low = Math.min(...values), high = Math.max(...values);
  const margin = Math.max((high - low) * 0.06, Math.abs(high) * 0.01, 0.005);
  [low, high] = [low - margin, high + margin];
  const rounds = Math.max(last, 2);
  const first = Math.min(...lines.flatMap(line => line.points.map(point => point[0])), rounds - 1);
  const inner = { width: width - CHART.left - CHART.right, height: CHART.height - CHART.top - CHART.bottom };
  const x = round => CHART.left + (round - first) / (rounds - first) * inner.width;
  const y = value => CHART.top + (high - value) / (high - low) * inner.height;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${CHART.height}`, role: "img", "aria-label": label });
  for (const tick of ticks(low, high, 4, 1e-6)) {
    svg.append(shape("line", { class: "grid", x1: CHART.left, x2: width - CHART.right, y1: y(tick.value), y2: y(tick.value) }));
    svg.append(shape("text", { x: CHART.left - 7, y: y(tick.value) + 4, "text-anchor": "end" }, tick.text));
  }
  for (const tick of ticks(first, rounds, Math.max(2, Math.floor(width / 70)), 1)) {
    svg.append(shape("text", { x: x(tick.value), y: CHART.height - CHART.bottom + 16, "text-anchor": "middle" }, tick.text));
  }
  svg.append(shape("text", { x: CHART.left + inner.width / 2, y: CHART.height - 3, "text-anchor": "middle" }, "round"));
  for (const line of lines) {
    let path = "", before = null;
    for (const [round, value] of line.points) {
      if (value !== null) path += `${before === round - 1 ? "L" : "M"}${x(round).toFixed(1)} ${y(value).toFixed(1)}`;
      before = value === null ? null : round;
    }
    const drawn = shape("path", { class: `line ${line.style}`, d: path });
    drawn.append(shape("title", {}, line.name));
    svg.append(drawn);
    if (line.points.length > CHART.dots) continue;
    for (const [round, value] of line.points) {
      if (value === null) continue;
      const dot = shape("circle", { class: `dot ${line.style}`, cx: x(round), cy: y(value), r: 2.6 });
      dot.append(shape("title", {}, `${line.name}, round ${round}: ${value.toPrecision(4)}`));
      svg.append(dot);
    }
  }
  return svg;
}
