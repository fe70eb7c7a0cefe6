"use strict";
// Shows the moments that /events sends. Everything from outside is set as text, never as markup.
const DASH = "\u2013", MINUS = "\u2212", COLOURS = 8;
const at = id => document.getElementById(id);
let moment = null, drawn = "", width = 0, stopped = false;

function make(tag, style, ...content) {
  const node = document.createElement(tag);
  if (style) node.className = style;
  node.append(...content);
  return node;
}

const number = (value, digits = 3) => value === null ? DASH : value.toFixed(digits).replace("-", MINUS);
const seconds = value => value === null ? DASH : value < 10 ? value.toFixed(1) : value.toFixed(0);

function span(value) {
  const whole = Math.max(0, Math.round(value));
  if (whole < 60) return `${whole} s`;
  if (whole < 7200) return `${Math.round(whole / 60)} min`;
  return whole < 172800 ? `${Math.floor(whole / 3600)} h ${Math.round(whole % 3600 / 60)} min` : `${Math.floor(whole / 86400)} days`;
}

function clock(value) {
  const date = new Date(value * 1000), day = { day: "numeric", month: "short" };
  const time = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  return date.toLocaleString("en-GB", date.toDateString() === new Date().toDateString() ? time : { ...day, ...time });
}

const here = () => Date.now() / 1000;
// Times in a snapshot are the server's: its clock, not this machine's.
// Without a connection the ages stand still at the last sign.
const there = () => (moment.link.ok ? here() : moment.link.seen ?? here()) - moment.ahead_s;

function sentence(run) {
  if (run.state === "waiting") {
    if (run.sites.length) return "It was started and has not reported anything yet.";
    return run.run ? "Nothing is known of this run yet." : "No run has been started here.";
  }
  if (run.state === "failed") return `Failed: ${run.text || "no reason was given"}`;
  if (run.state === "finished") {
    if (run.outcome === "complete") return "Finished, complete: with every site and case.";
    return run.outcome ? `Finished, but ${run.outcome}: ${run.text || "see the rounds below"}` : "Finished";
  }
  const count = run.total > 1 ? ` ${run.done} of ${run.total}` : "";
  return `${run.doing[0].toUpperCase()}${run.doing.slice(1)}${count}${run.text ? `: ${run.text}` : ""}`;
}

function times(run) {
  const parts = [];
  if (run.started !== null) parts.push(`Started ${clock(run.started + moment.ahead_s)}.`);
  if (run.state === "running") {
    const left = remaining(run);
    if (left) parts.push(left);
  }
  if (run.at !== null) {
    parts.push(run.state === "running" ? `Last step ${span(there() - run.at)} ago.` : `Ended ${clock(run.at + moment.ahead_s)}.`);
  }
  return parts.join(" ");
}

function remaining(run) {
  if (run.phase !== "train") return "";
  const passed = run.left_at === null ? 0 : there() - run.left_at;
  if (run.left_s !== null) return `About ${span(run.left_s - passed)} of training left.`;
  const task = run.tasks.find(item => item.total !== null && item.rounds.length && item.left_s > 0);
  return task ? `About ${span(task.left_s - passed)} left of ${task.task}; what follows has no pace yet.`
    : "Time left: not known before two rounds.";
}

function tile(site, state) {
  const node = make("article", `tile ${site.state === "failed" ? "failed-site" : /^[a-z]+$/.test(site.state) ? site.state : ""}`);
  // Of a run that failed, nobody says any more how a site is.
  const before = state === "failed" ? "was " : "";
  const since = site.since === null || state === "failed" ? "" : ` for ${span(there() - site.since)}`;
  node.append(make("h3", "", site.name), make("p", "state", make("b", "", before + site.state), since));
  if (site.reason) node.append(make("p", "reason", site.reason));
  const facts = make("dl");
  for (const [name, value] of [["training cases", site.cases === null ? DASH : String(site.cases)],
    ["last loss", number(site.loss)], ["last validation score", number(site.score)]]) {
    facts.append(make("dt", "", name), make("dd", "", value));
  }
  node.append(facts);
  return node;
}

function figure(task, names, key, title, unit, whole) {
  const lines = names.map((name, index) => ({ name, style: `l${index % COLOURS}`,
    points: task.rounds.map(item => [item.round, item.sites[name]?.[key] ?? null]) }));
  if (whole) lines.push({ name: "all cases", style: "whole", points: task.rounds.map(item => [item.round, item.score]) });
  const last = Math.max(...task.rounds.map(item => item.round), 0);
  const room = Math.max(260, Math.min(520, at("tasks").clientWidth <= 680 ? at("tasks").clientWidth : at("tasks").clientWidth / 2 - 16));
  const svg = chart(lines, last, room, `${task.task}: ${title} of ${names.length} sites over ${last} rounds`);
  return svg && make("figure", "", make("figcaption", "", title, make("span", "", unit)), svg);
}

function table(task, names) {
  const head = make("tr");
  for (const [text, style] of [["round", "num"], ["seconds", "num"], ["score", "num"], ...names.map(name => [name, "num"]), ["model", ""]]) {
    head.append(make("th", style, text));
  }
  const body = make("tbody");
  for (const item of [...task.rounds].reverse()) {
    const row = make("tr", "", make("th", "num", String(item.round)), make("td", "num", seconds(item.seconds)),
      make("td", "num", number(item.score)));
    for (const name of names) {
      const site = item.sites[name], good = site?.status === "accepted";
      const cell = make("td", good ? "num" : "num bad", good ? String(site.cases) : site?.status || "absent");
      if (site?.reason) cell.title = site.reason;
      row.append(cell);
    }
    row.append(make("td", "hash", item.hash));
    body.append(row);
  }
  return make("div", "scroll", make("table", "", make("thead", "", head), body));
}

function section(task, sites) {
  const names = [...new Set([...sites, ...task.rounds.flatMap(item => Object.keys(item.sites))])];
  const count = task.total === null ? String(task.rounds.length) : `${task.rounds.at(-1)?.round ?? 0} of ${task.total}`;
  const node = make("section", "", make("h2", "", `${task.task}, ${count} rounds`));
  if (!task.rounds.length) {
    node.append(make("p", "note", "No round is committed yet."));
    return node;
  }
  const higher = ` (${task.measure}: higher is better)`;
  const charts = [figure(task, names, "loss", "Training loss", ", mean of a site's round", false),
    figure(task, names, "score", "Validation score", higher, true)].filter(Boolean);
  node.append(make("div", "charts", ...charts));
  const key = make("p", "key", ...names.map((name, index) => make("span", `l${index % COLOURS}`, name)));
  key.append(make("span", "whole", "all validation cases"));
  node.append(key, make("h3", "", "Rounds"), make("p", "note", "Under each site: the cases that entered the average, or why none did."), table(task, names));
  return node;
}

function showLink(link) {
  const lost = !link.ok && (link.seen !== null || link.why !== "connecting");
  at("lost").hidden = !lost && !stopped;
  const seen = link.seen === null ? "It was never seen." : `Last seen ${clock(link.seen)}; what follows is as it was then.`;
  at("lost").firstElementChild.textContent = stopped ? "The monitor was stopped on this machine. Start it again to go on."
    : lost ? `Server not reachable since ${clock(link.since)}: ${link.why}. ${seen}` : "";
}

function show() {
  if (!moment) {
    showLink({ ok: true });
    return;
  }
  const { run, link } = moment;
  showLink(link);
  if (!run) {
    at("name").textContent = link.why === "connecting" ? "Connecting" : "No connection yet";
    return;
  }
  document.body.className = run.state;
  document.title = `${run.run ?? "no run"}: ${run.state === "running" ? run.doing : run.state}`;
  at("name").textContent = run.run && run.state !== "waiting" ? run.run : `Waiting for ${run.run ?? "a run"}`;
  at("state").textContent = sentence(run);
  at("times").textContent = times(run);
  at("phantom").hidden = !run.phantom;
  if (run.phantom_sites?.length) {
    at("phantom").firstElementChild.lastChild.textContent =
      ` The images of ${run.phantom_sites.join(", ")} are generated, those of the other sites are patients'.`;
  }
  at("bar").hidden = run.state === "waiting" || run.state === "failed";
  at("bar").value = run.state === "finished" ? 1 : run.total > 0 ? run.done / run.total : 0;
  at("bar").setAttribute("aria-label", sentence(run));
  at("sites-part").hidden = !run.sites.length;
  at("sites").replaceChildren(...run.sites.map(site => tile(site, run.state)));
  const now = JSON.stringify([run.tasks, run.sites.map(site => site.name)]);
  if (now === drawn && width === at("tasks").clientWidth) return;
  [drawn, width] = [now, at("tasks").clientWidth];
  const kept = [...document.querySelectorAll(".scroll")].map(item => [item.scrollLeft, item.scrollTop]);
  at("tasks").replaceChildren(...run.tasks.map(task => section(task, run.sites.map(site => site.name))));
  document.querySelectorAll(".scroll").forEach((item, index) => item.scrollTo(...(kept[index] ?? [0, 0])));
}

const events = new EventSource("/events");
events.onmessage = event => {
  stopped = false;
  moment = JSON.parse(event.data);
  show();
};
events.onerror = () => {
  stopped = true;
  show();
};
// Ages and the time left go on between two moments.
setInterval(show, 1000);
addEventListener("resize", show);
