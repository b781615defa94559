"use strict";
// The list of sessions: of all, or of the one whose token stands behind # in the address. It never leaves this machine.
const token = location.hash.slice(1) || sessionStorage.getItem("list") || "";
sessionStorage.setItem("list", token);

function cell(row, text, className) {
  const td = document.createElement("td");
  td.textContent = text ?? "–";
  if (className) td.className = className;
  row.append(td);
  return td;
}

async function show() {
  const message = document.getElementById("message");
  const answer = await fetch("/api/sessions", { headers: { "X-Token": token } });
  const content = await answer.json();
  if (!answer.ok) { message.textContent = content.error; return; }
  message.textContent = content.sessions.length ? "" : "There is no session yet.";
  const table = document.querySelector("table");
  table.hidden = !content.sessions.length;
  const body = table.tBodies[0];
  body.replaceChildren();
  for (const s of content.sessions) {
    const row = body.insertRow();
    cell(row, s.subject);
    const link = document.createElement("a");
    link.href = `/session/${s.subject}/${s.session}#${s.token}`;
    link.textContent = s.session;
    cell(row, "").replaceChildren(link);
    cell(row, s.started && new Date(s.started).toLocaleString("sv-SE").slice(0, 16), "mono");  // local: 2026-12-01 23:05
    cell(row, s.minutes?.toFixed(1), "mono");
    cell(row, s.cues, "mono");
    cell(row, s.simulated ? `${s.source}, simulated` : s.source, s.simulated ? "mark-simulated" : "");
    cell(row, s.running ? "running" : s.ending ?? "broke off");
    const report = cell(row, "");
    if (s.report) {
      const link = document.createElement("a");
      link.href = `/report/${s.subject}/${s.session}?token=${s.report}`;
      link.textContent = "report";
      report.replaceChildren(link);
    }
  }
}

show();
setInterval(show, 5000);
