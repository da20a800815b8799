// What JavaScript adds to the page: results as you type and without a reload, images dropped in, a
// viewer, the keyboard. Without it every link and form still works.
"use strict";

const results = document.getElementById("results");
const viewer = document.getElementById("viewer");
const viewed = document.getElementById("viewed");
const drop = document.getElementById("drop");
const root = document.body.dataset.root; // below which a proxy shows the service
const box = () => document.getElementById("q");
let asking = new AbortController();
let typing = 0;

async function fetchPage(address, options = {}) {
  asking.abort();
  asking = new AbortController();
  const headers = { Accept: "text/html" };
  const answer = await fetch(address, { ...options, headers, signal: asking.signal });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return { page, address: answer.url };
}

// Takes the parts of another page of ours; what somebody is typing stays as it is.
function take(page, typed) {
  document.title = page.title;
  document.body.className = page.body.className;
  document.querySelector(".hero")?.remove();
  results.replaceChildren(...page.getElementById("results").childNodes);
  document.getElementById("status").replaceChildren(...page.getElementById("status").childNodes);
  for (const part of [".chips", ".languages"]) {
    const [mine, theirs] = [document.querySelector(part), page.querySelector(part)];
    if (mine && theirs) mine.replaceWith(theirs);
  }
  if (!typed) {
    const { id, name } = document.activeElement;
    const open = document.querySelector(".filters").open;
    document.querySelector(".asking").replaceWith(page.querySelector(".asking"));
    if (open) document.querySelector(".filters").open = true;
    (id === "q" ? box() : name && document.querySelector(`.filters [name="${name}"]`))?.focus();
  }
}

let current = location.href; // address of the page that the document shows, below a dialog

// history: "push" for a step of its own, "replace" while somebody types, "" to go back
async function show(address, history_, { typed = false, options } = {}) {
  results.setAttribute("aria-busy", "true");
  try {
    const { page, address: reached } = await fetchPage(address, options);
    viewer.close();
    beneath = "";
    take(page, typed);
    if (history_ === "push") {
      history.pushState(null, "", reached);
      window.scrollTo(0, 0);
    } else if (history_ === "replace") {
      history.replaceState(null, "", reached);
    }
    current = location.href;
    results.removeAttribute("aria-busy");
  } catch (error) {
    if (error.name === "AbortError") return;
    if (options) results.removeAttribute("aria-busy");
    else location.assign(address);
  }
}

function asked() {
  const form = document.getElementById("search");
  const values = [...new FormData(form)].filter(([, value]) => value !== "");
  return values.length ? root + "/?" + new URLSearchParams(values) : "";
}

function search(history_, typed) {
  clearTimeout(typing);
  const address = asked();
  if (address) show(address, history_, { typed });
  else if (!typed && document.body.classList.contains("found")) location.assign(root + "/");
}

document.addEventListener("input", (event) => {
  if (event.target !== box()) return;
  clearTimeout(typing);
  // the first letters make a step of the history, the others change it
  typing = setTimeout(() => search(document.body.classList.contains("found") ? "replace" : "push", true), 220);
});

document.addEventListener("submit", (event) => {
  if (event.target.id === "search") search("push", false);
  else if (event.target.id === "send") send(document.getElementById("picture").files[0]);
  else return;
  event.preventDefault();
});

document.addEventListener("change", (event) => {
  if (event.target.id === "picture") send(event.target.files[0]);
  else if (event.target.closest(".filters")) search("push", false);
});

// a picture to search with: chosen, dropped or pasted
function send(file) {
  if (!file) return;
  const body = new FormData();
  body.append("picture", file);
  body.append("q", box()?.value ?? "");
  show(root + "/picture", "push", { options: { method: "POST", body } });
}

// the words may have changed since the link was written
function forget(given) {
  given.remove();
  search("push", false);
}

const carries = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  drop.hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.hidden = true;
});
document.addEventListener("drop", (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  drop.hidden = true;
  send(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
  if (file) send(file);
});

// one image in a dialog, at its own address: Back closes it, a copied address leads to it
let beneath = ""; // address of the page under the dialog
let titled = ""; // and its title
let opener = null; // card that was opened

// history: "push" where the dialog opens, "replace" within it, "" to go back or forward
async function view(address, history_) {
  try {
    const { page } = await fetchPage(address);
    const item = page.getElementById("item");
    if (!item) throw new Error("no item");
    if (!viewer.open && history_) [beneath, titled] = [location.href, document.title];
    viewed.replaceChildren(item);
    document.title = page.title;
    if (history_ === "push") history.pushState({ item: address, beneath }, "", address);
    else if (history_) history.replaceState({ item: address, beneath }, "", address);
    if (!viewer.open) viewer.showModal();
    viewer.scrollTo(0, 0);
    mark(address);
    align(viewed.querySelector("[data-first]"));
  } catch (error) {
    if (error.name !== "AbortError") location.assign(address);
  }
}

// Remembers which card of the page is shown, and whether there is one before and after it.
function mark(address) {
  const cards = [...results.querySelectorAll(".open")];
  opener = cards.find((card) => card.href === new URL(address, location).href) ?? opener;
  const at = cards.indexOf(opener);
  const [before, after] = viewer.querySelectorAll("[data-turn]");
  before.disabled = at <= 0;
  after.disabled = at < 0 || at >= cards.length - 1;
}

function turn(step) {
  const cards = [...results.querySelectorAll(".open")];
  const next = cards[cards.indexOf(opener) + step];
  if (!next || !cards.includes(opener)) return;
  opener = next;
  view(next.href, "replace");
}

// Takes the address of the page beneath back; the browser then closes the dialog.
function leave() {
  asking.abort();
  if (beneath && history.state?.item) history.back();
  else viewer.close();
}

viewer.addEventListener("cancel", (event) => {
  event.preventDefault(); // Escape
  leave();
});

function closeViewer() {
  viewer.close();
  viewed.replaceChildren(); // a video stops
  document.title = titled;
  beneath = "";
  if (opener?.isConnected) opener.focus({ preventScroll: true });
  opener?.scrollIntoView({ block: "nearest" });
}

async function align(link) {
  const item = link?.closest("#item");
  if (!item) return;
  const answer = await fetch(link.href);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const found = page.querySelector(".alignment");
  if (!found) return;
  item.querySelector(".align[aria-current]")?.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
  item.querySelector(".alignment").replaceWith(found);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  const step = event.target.closest("[data-turn]")?.dataset.turn;
  if (step) turn(Number(step));
  if (event.target === viewer || event.target.closest(".close")) {
    event.preventDefault();
    leave();
    return;
  }
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const address = new URL(link.href);
  if (link.matches(".open")) view(link.href, viewer.open ? "replace" : "push");
  else if (link.matches(".moments a") && viewer.open) view(link.href, "replace");
  else if (link.matches(".align")) align(link);
  else if (link.matches(".given a")) forget(link.closest(".given"));
  else if (address.origin === location.origin && address.pathname === root + "/" && address.search) show(link.href, "push");
  else return;
  event.preventDefault();
});

document.addEventListener("click", (event) => {
  if (!event.detail) return; // a key that submits clicks the button, too
  for (const panel of document.querySelectorAll(".panel[open]"))
    if (!panel.contains(event.target)) panel.open = false;
});

window.addEventListener("popstate", (event) => {
  if (viewer.open && location.href === beneath) closeViewer();
  else if (event.state?.item && event.state.beneath === current) reopen(event.state);
  else if (location.search) show(location.href, "");
  else location.reload();
});

// Forward to a dialog whose page still stands.
function reopen(state) {
  if (!viewer.open) [beneath, titled] = [state.beneath, document.title];
  view(state.item, "");
}

// the card that lies next in a direction, by where it is on the screen
function neighbour(card, key, cards) {
  if (key === "Home") return cards[0];
  if (key === "End") return cards.at(-1);
  const at = cards.indexOf(card);
  const turn = getComputedStyle(card).direction === "rtl" ? -1 : 1;
  if (key === "ArrowRight") return cards[at + turn];
  if (key === "ArrowLeft") return cards[at - turn];
  const from = card.getBoundingClientRect();
  const sign = key === "ArrowDown" ? 1 : -1;
  const ranked = cards
    .map((other) => [other, other.getBoundingClientRect()])
    .filter(([, to]) => (sign > 0 ? to.top >= from.bottom : to.bottom <= from.top))
    .map(([other, to]) => [other, Math.abs(to.top - from.top) * 4 + Math.abs(to.left - from.left)]);
  return ranked.sort((a, b) => a[1] - b[1])[0]?.[0];
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const active = document.activeElement;
  if (event.key === "/" && !active.matches("input, select, textarea") && !viewer.open && box()) {
    event.preventDefault();
    box().select();
    return;
  }
  if (event.key === "Escape") {
    const panel = document.querySelector(".panel[open]");
    if (panel) {
      panel.open = false;
      panel.querySelector("summary").focus();
    }
    return;
  }
  if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) return;
  if (viewer.open) {
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    const onward = document.dir === "rtl" ? -1 : 1;
    if (!steps[event.key] || active.matches("video, input, .similar .open")) return;
    event.preventDefault();
    turn(steps[event.key] * onward);
    return;
  }
  const card = active.closest?.(".open");
  const cards = [...(card?.closest(".grid") ?? results).querySelectorAll(".open")];
  let next;
  if (card) next = neighbour(card, event.key, cards);
  else if (active === box() && event.key === "ArrowDown") next = cards[0];
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.scrollIntoView({ block: "nearest" });
});

function gone(picture) {
  const frame = picture.closest?.(".frame, .large");
  if (!frame) return;
  frame.dataset.gone = document.body.dataset.gone;
  frame.classList.add("gone");
}
document.addEventListener("error", (event) => gone(event.target), true);
for (const picture of document.images) if (picture.complete && !picture.naturalWidth) gone(picture);
if (document.body.classList.contains("one")) align(document.querySelector("[data-first]"));
