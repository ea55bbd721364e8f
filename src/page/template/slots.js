// How many steps were under way, beside how many could have been.

const slots = {
  part(total) {
    const counts = data.timeline.under_way;
    const most = Math.max(0, ...counts.map(([, n]) => n));
    if (most === 0) return null;
    const jobs = record.jobs || 0, top = jobs <= most * 2 ? Math.max(most, jobs) : most;
    const height = 90, y = (n) => 4 + (height - 8) * (1 - n / top), x = (ms) => (1000 * Math.min(ms, total)) / total;
    let path = `M0 ${y(0)}`, before = 0, busy = 0, full = 0;
    counts.forEach(([from, n], at) => {
      path += `L${x(from)} ${y(before)}L${x(from)} ${y(n)}`;
      const until = at + 1 < counts.length ? counts[at + 1][0] : total;
      busy += n * Math.max(0, until - from);
      if (jobs && n >= jobs) full += Math.max(0, until - from);
      before = n;
    });
    path += `L1000 ${y(before)}L1000 ${y(0)}Z`;
    const words = `On average ${(busy / total).toFixed(1)} steps were under way, ${most} at most` + (jobs ? `; ${count(jobs, "slot")} (--jobs), all of them taken for ${duration(full)}.` : ".");
    const picture = svg("svg", { class: "slots", viewBox: `0 0 1000 ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `Steps under way over time. ${words}` },
      svg("path", { class: "area", d: path }),
      jobs && jobs <= top ? svg("line", { class: "limit", x1: 0, x2: 1000, y1: y(jobs), y2: y(jobs) }) : null);
    return el("div", { class: "under" }, el("h3", {}, "Slots in use"), el("p", { class: "hint" }, words),
      el("div", { class: "axis" }, el("span", { class: "label" }, el("span", { class: "top" }, String(top)), el("span", { class: "zero" }, "0")), picture, el("span", { class: "time" })),
      inWords("Slots in use as a table", () => table("Steps under way", [["From", "n"], ["Steps", "n"]], counts.slice(0, 1000).map(([from, n]) => [duration(from), String(n)]))));
  },
};
