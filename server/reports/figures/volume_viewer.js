"use strict";
// Three linked planes in each `figure.volume`. Axes are z, y, x: to superior, to posterior, to the patient's left.
(() => {
  // The axis through the plane, across the page and along it; z runs up the page, y down.
  const PLANES = {
    axial: { axis: "z", normal: 0, across: 2, along: 1, up: false },
    coronal: { axis: "y", normal: 1, across: 2, along: 0, up: true },
    sagittal: { axis: "x", normal: 2, across: 1, along: 0, up: true },
  };
  const OUTLINES = { reference: { colour: "#56b4e9", dash: [] }, prediction: { colour: "#e69f00", dash: [5, 4] } };
  const LINE_PX = 1.8, WHEEL_PX = 40, FREE_MM = 5, EDGE_MM = 8; // the cross has a hole, and ends at the letters
  const KEYS = { ArrowUp: 1, ArrowRight: 1, PageUp: 5, End: Infinity,
    ArrowDown: -1, ArrowLeft: -1, PageDown: -5, Home: -Infinity };

  const clamp = (value, size) => Math.min(size - 1, Math.max(0, value));
  const minus = text => text.replaceAll("-", "\u2212");
  // Most significant bit first, as numpy packs them.
  const unpack = (bits, count) => Uint8Array.from({ length: count }, (_, i) => (bits[i >> 3] >> (7 - (i & 7))) & 1);

  async function decode(figure) {
    const volume = JSON.parse(figure.dataset.volume);
    const packed = Uint8Array.from(atob(figure.dataset.voxels), letter => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    const count = volume.shape.reduce((product, size) => product * size), bits = Math.ceil(count / 8);
    if (bytes.length !== count + 2 * bits) throw new Error("the volume is not whole");
    volume.image = bytes.subarray(0, count);
    volume.reference = unpack(bytes.subarray(count, count + bits), count);
    volume.prediction = unpack(bytes.subarray(count + bits), count);
    return volume;
  }

  // One slice of `data`, rows from the top of the page down.
  function cut({ shape }, view, index, data) {
    const steps = [shape[1] * shape[2], shape[2], 1], width = shape[view.across], height = shape[view.along];
    const values = new Uint8Array(width * height);
    for (let row = 0, i = 0; row < height; row++) {
      const along = view.up ? height - 1 - row : row;
      const start = index * steps[view.normal] + along * steps[view.along];
      for (let column = 0; column < width; column++) values[i++] = data[start + column * steps[view.across]];
    }
    return { values, width, height };
  }

  // Closed lines along voxel edges; every edge has the mask to its right, so that edges join end to start.
  function contours({ values, width, height }) {
    const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && values[y * width + x];
    const next = new Map();
    const edge = (x0, y0, x1, y1) => {
      const from = y0 * (width + 1) + x0;
      next.set(from, [...(next.get(from) ?? []), y1 * (width + 1) + x1]);
    };
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (!inside(x, y)) continue;
        if (!inside(x, y - 1)) edge(x, y, x + 1, y);
        if (!inside(x + 1, y)) edge(x + 1, y, x + 1, y + 1);
        if (!inside(x, y + 1)) edge(x + 1, y + 1, x, y + 1);
        if (!inside(x - 1, y)) edge(x, y + 1, x, y);
      }
    }
    const lines = [];
    for (const first of next.keys()) {
      const line = [];
      for (let at = first; next.get(at).length; at = next.get(at).pop()) line.push(at);
      if (line.length) lines.push(line.map(at => [at % (width + 1), Math.trunc(at / (width + 1))]));
    }
    return lines;
  }

  function mount(figure, volume) {
    const { shape, spacing, field, start, bounds: [low, high] } = volume, position = [...start];
    const brightness = figure.querySelector("input.window");
    const buffer = document.createElement("canvas"), paper = buffer.getContext("2d");
    const views = [...figure.querySelectorAll(".plane")].map(element => ({
      ...PLANES[element.dataset.plane], name: element.dataset.plane, text: element.querySelector(".at"),
      canvas: element.querySelector("canvas"), range: element.querySelector("input"),
    }));

    // Where the slice lies on the canvas, px: its middle is the field's.
    function place(view) {
      const side = view.canvas.width, scale = side / field;
      const width = shape[view.across] * spacing[view.across] * scale;
      const height = shape[view.along] * spacing[view.along] * scale;
      return { side, scale, width, height, left: (side - width) / 2, top: (side - height) / 2 };
    }

    function drawImage(view, brush, { left, top, width, height }) {
      const drawn = cut(volume, view, position[view.normal], volume.image);
      const pixels = new ImageData(drawn.width, drawn.height), gain = 255 / brightness.value;
      drawn.values.forEach((value, i) => pixels.data.set([value * gain, value * gain, value * gain, 255], 4 * i));
      [buffer.width, buffer.height] = [drawn.width, drawn.height];
      paper.putImageData(pixels, 0, 0);
      brush.imageSmoothingEnabled = false;
      brush.drawImage(buffer, left, top, width, height);
    }

    function drawOutline(view, brush, { left, top, width, height }, name) {
      const drawn = cut(volume, view, position[view.normal], volume[name]);
      const wide = width / drawn.width, high = height / drawn.height;
      brush.beginPath();
      for (const line of contours(drawn)) {
        line.forEach(([x, y], i) => brush[i ? "lineTo" : "moveTo"](left + x * wide, top + y * high));
        brush.closePath();
      }
      brush.strokeStyle = OUTLINES[name].colour;
      brush.lineWidth = LINE_PX * devicePixelRatio;
      brush.setLineDash(OUTLINES[name].dash.map(length => length * devicePixelRatio));
      brush.stroke();
    }

    function drawCross(view, brush, { side, scale, left, top, height }) {
      const [across, along] = [view.across, view.along].map(axis => (position[axis] + 0.5) * spacing[axis] * scale);
      const x = left + across, y = top + (view.up ? height - along : along);
      const free = FREE_MM * scale, edge = EDGE_MM * scale;
      brush.fillStyle = "rgb(255 255 255 / .55)";
      const ends = at => [[edge, Math.max(edge, at - free)], [Math.min(side - edge, at + free), side - edge]];
      for (const [from, to] of ends(x)) brush.fillRect(from, y, to - from, devicePixelRatio);
      for (const [from, to] of ends(y)) brush.fillRect(x, from, devicePixelRatio, to - from);
    }

    function draw(view) {
      const index = position[view.normal], mm = ((index - start[view.normal]) * spacing[view.normal]).toFixed(1);
      const where = `${index + 1} of ${shape[view.normal]}, ${view.axis}\u00a0=\u00a0${minus(mm)}\u00a0mm`;
      const shown = Object.keys(OUTLINES).filter(name => figure.querySelector(`input.${name}`).checked);
      view.range.value = index + 1;
      view.range.ariaValueText = where;
      view.text.textContent = `${view.name} slice, ${where}`;
      view.canvas.ariaLabel = `${volume.title}, ${view.text.textContent}, outlines: ${shown.join(" and ") || "none"}`;
      view.canvas.width = view.canvas.height = Math.round(view.canvas.clientWidth * devicePixelRatio);
      if (!view.canvas.width) return;
      const brush = view.canvas.getContext("2d"), box = place(view);
      drawImage(view, brush, box);
      shown.forEach(name => drawOutline(view, brush, box, name));
      drawCross(view, brush, box);
    }

    function update() {
      const white = low + (high - low) * brightness.value / 255;
      const words = minus(`${Number(low.toPrecision(3))} to ${Number(white.toPrecision(3))} a.u.`);
      figure.querySelector("output").textContent = words;
      brightness.ariaValueText = words;
      views.forEach(draw);
    }

    function move(view, index) {
      position[view.normal] = clamp(index, shape[view.normal]);
      update();
    }

    function point(view, event) {
      const frame = view.canvas.getBoundingClientRect(), { side, scale, left, top, height } = place(view);
      const across = (event.clientX - frame.left) / frame.width * side - left;
      const fallen = (event.clientY - frame.top) / frame.height * side - top;
      for (const [axis, px] of [[view.across, across], [view.along, view.up ? height - fallen : fallen]]) {
        position[axis] = clamp(Math.floor(px / scale / spacing[axis]), shape[axis]);
      }
      update();
    }

    for (const view of views) {
      const turn = steps => move(view, position[view.normal] + steps);
      let turned = 0;
      view.range.addEventListener("input", () => move(view, view.range.value - 1));
      view.canvas.addEventListener("pointerdown", event => view.canvas.setPointerCapture(event.pointerId));
      view.canvas.addEventListener("pointermove", event => event.buttons & 1 && point(view, event));
      view.canvas.addEventListener("click", event => point(view, event));
      // Somebody who scrolls by must not be caught: the wheel turns slices once a plane was clicked or tabbed to.
      view.canvas.addEventListener("wheel", event => {
        if (document.activeElement !== view.canvas) return;
        event.preventDefault();
        turned -= event.deltaMode ? event.deltaY * WHEEL_PX : event.deltaY;
        turn(Math.trunc(turned / WHEEL_PX));
        turned %= WHEEL_PX;
      }, { passive: false });
      view.canvas.addEventListener("keydown", event => {
        if (!(event.key in KEYS)) return;
        event.preventDefault();
        turn(KEYS[event.key]);
      });
      new ResizeObserver(() => draw(view)).observe(view.canvas);
    }
    figure.querySelectorAll(".controls input").forEach(input => input.addEventListener("input", update));
    figure.classList.add("mounted");
    update();
  }

  async function begin(figure) {
    figure.dataset.begun = "";
    try {
      if (!window.DecompressionStream) throw new Error("open this page in a current browser");
      mount(figure, await decode(figure));
    } catch (error) {
      figure.querySelector(".message").textContent = `The slices cannot be moved: ${error.message}.`;
    }
  }

  window.mountVolumes = () => document.querySelectorAll("figure.volume:not([data-begun])").forEach(begin);
  addEventListener("DOMContentLoaded", window.mountVolumes);
})();
