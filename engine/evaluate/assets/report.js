"use strict";
// Draws the report's plots from the JSON that the page carries; nothing is fetched.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const learners = data.learners;
  const colour = (k) => getComputedStyle(document.documentElement).getPropertyValue(`--s${k % 10}`).trim();
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plots = [];
  // rows of uPlot's: seconds between ticks, format, then the format where the year, month or day changes
  const DATES = [
    [86400 * 365, "{YYYY}", null, null, null, null, null, null, 1],
    [86400 * 28, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
    [86400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
    [3600, "{HH}:{mm}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
    [60, "{HH}:{mm}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
    [1, "{HH}:{mm}:{ss}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
  ];

  // Series with points of their own share one x axis; a gap is null.
  function joined(series) {
    const xs = [...new Set(series.flatMap((s) => s.x))].sort((a, b) => a - b);
    const place = new Map(xs.map((x, i) => [x, i]));
    return [xs, ...series.map((s) => {
      const column = new Array(xs.length).fill(undefined); // undefined: uPlot draws through it
      s.x.forEach((x, i) => { column[place.get(x)] = s.y[i]; });
      return column;
    })];
  }

  // One learner that runs away must not flatten the others: the scale ends at three times the usual maximum.
  function range(u, low, high) {
    if (low == null) return [0, 1];
    const tops = u.series.slice(1).map((s, i) => [s, u.data[i + 1]]).filter(([s]) => s.show)
      .map(([, ys]) => Math.max(...ys.filter((y) => y != null))).sort((a, b) => a - b);
    const most = tops.length > 2 ? Math.min(high, 3 * tops[Math.floor((tops.length - 1) / 2)]) : high;
    return uPlot.rangeNum(low, most > low ? most : high, 0.1, true);
  }

  function plot(host, series, { timed, marks = [], digits = 3 }) {
    host.replaceChildren();
    if (!series.length || !series[0].x.length) return null;
    const axis = { stroke: css("--soft"), grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--grid"), width: 1 },
      font: "12px system-ui, sans-serif" };
    const shown = (v) => (v == null ? "–" : Math.abs(v) < 1e7 ? v.toFixed(digits) : v.toPrecision(3));
    const u = new uPlot({
      width: Math.max(280, host.clientWidth), height: 320,
      tzDate: (t) => uPlot.tzDate(new Date(t * 1e3), "Etc/UTC"),
      scales: { x: { time: timed }, y: { range } },
      cursor: { points: { size: 7 } },
      legend: { markers: { dash: (u, i) => (u.series[i].dash ? "dashed" : "solid") } },
      axes: [{ ...axis, ...(timed ? { values: DATES, space: 70 } : {}) }, { ...axis, size: 62, values: (_, ticks) => ticks.map((v) => (Math.abs(v) < 1e-12 ? "0" : String(+v.toFixed(4)))) }],
      series: [
        { label: timed ? "time (UTC)" : "events", ...(timed ? { value: "{YYYY}-{MM}-{DD} {HH}:{mm}" } : {}) },
        ...series.map((s) => ({ label: s.label, stroke: colour(s.colour), width: s.wide ? 2.5 : 1.6, spanGaps: true,
          dash: s.colour >= 10 ? [6, 4] : undefined,
          points: { show: false }, value: (_, v) => shown(v) })),
      ],
      hooks: { draw: [(u) => {
        const { ctx, bbox } = u;
        ctx.save();
        ctx.strokeStyle = css("--bad"); ctx.lineWidth = devicePixelRatio; ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
        for (const mark of marks) {
          const x = u.valToPos(mark, "x", true);
          if (x < bbox.left || x > bbox.left + bbox.width) continue;
          ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
        }
        ctx.restore();
      }] },
    }, joined(series), host);
    plots.push({ u, host });
    return u;
  }

  function drawCurves(field) {
    const host = document.getElementById("curves");
    if (!host) return;
    const series = learners
      .filter((l) => l.curve.some((p) => p[field] != null))
      .map((l) => {
        const points = l.curve.filter((p) => p[field] != null);
        return { label: l.title, colour: l.colour, wide: l.colour === 0, x: points.map((p) => (data.timed ? p.time : p.events)),
          y: points.map((p) => p[field]) };
      });
    plot(host, series, { timed: data.timed, marks: data.marks });
    document.querySelectorAll("#choice button").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.field === field)));
  }

  function drawWeights() {
    const host = document.getElementById("weights");
    if (!host || !data.experts) return;
    const names = Object.keys(data.experts.weights);
    plot(host, names.map((name, k) => ({ label: name, colour: k, x: data.experts.time, y: data.experts.weights[name] })),
      { timed: data.expertsTimed });
  }

  function drawCalibration() {
    const host = document.getElementById("calibration");
    if (!host) return;
    const size = 400, pad = 44, span = size - pad - 14;
    const X = (v) => (pad + v * span).toFixed(1), Y = (v) => (size - pad - v * span).toFixed(1);
    let svg = "";
    for (const v of [0, 0.25, 0.5, 0.75, 1]) {
      svg += `<line x1="${X(v)}" y1="${Y(0)}" x2="${X(v)}" y2="${Y(1)}" stroke="var(--grid)"/>` +
        `<line x1="${X(0)}" y1="${Y(v)}" x2="${X(1)}" y2="${Y(v)}" stroke="var(--grid)"/>` +
        `<text x="${X(v)}" y="${+Y(0) + 18}" text-anchor="middle">${v}</text>` +
        `<text x="${pad - 8}" y="${+Y(v) + 4}" text-anchor="end">${v}</text>`;
    }
    svg += `<line x1="${X(0)}" y1="${Y(0)}" x2="${X(1)}" y2="${Y(1)}" stroke="var(--soft)" stroke-dasharray="4 4"/>`;
    svg += `<text x="${X(0.5)}" y="${size - 6}" text-anchor="middle">forecast probability</text>` +
      `<text transform="translate(12 ${Y(0.5)}) rotate(-90)" text-anchor="middle">how often it came</text>`;
    for (const l of [...learners].reverse()) {
      const rows = l.calibration || [];
      const total = rows.reduce((sum, r) => sum + r[2], 0);
      const kept = rows.filter((r) => r[2] >= Math.max(0.0005 * total, Math.min(20, 0.02 * total))); // few events say little
      const c = `var(--s${l.colour % 10})`;
      svg += `<polyline fill="none" stroke="${c}" stroke-width="${l.colour ? 1.4 : 2.4}" points="${kept.map((r) => `${X(r[0])},${Y(r[1])}`).join(" ")}"/>`;
      for (const r of kept) svg += `<circle cx="${X(r[0])}" cy="${Y(r[1])}" r="${(1.5 + 5 * Math.sqrt(r[2] / total)).toFixed(1)}" fill="${c}"/>`;
    }
    host.innerHTML = svg;
  }

  function drawAll() {
    plots.splice(0).forEach(({ u }) => u.destroy());
    drawCurves(current);
    drawWeights();
    drawCalibration();
  }

  let current = data.fields.length ? data.fields[0].name : "";
  document.querySelectorAll("#choice button").forEach((b) => b.addEventListener("click", () => {
    current = b.dataset.field;
    drawAll();
  }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(drawAll, 120); });
  drawAll();
})();
