// What the page gains with JavaScript: results as you type and without a reload, pictures dropped
// in, a viewer, the keyboard. Without it every link and form still works.
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
  const answer = await fetch(address, { ...options, signal: asking.signal });
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

// history: "push" for a step of its own, "replace" while somebody types, "" to go back
async function show(address, history_, { typed = false, options } = {}) {
  results.setAttribute("aria-busy", "true");
  try {
    const { page, address: reached } = await fetchPage(address, options);
    viewer.close();
    take(page, typed);
    if (history_ === "push") {
      history.pushState(null, "", reached);
      window.scrollTo(0, 0);
    } else if (history_ === "replace") {
      history.replaceState(null, "", reached);
    }
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
  if (address && (box().value.trim() || !box().required)) show(address, history_, { typed });
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
  box().required = true;
  if (box().value.trim()) search("push", false);
  else location.assign(root + "/");
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

// one picture, and its words
async function view(address) {
  try {
    const { page } = await fetchPage(address);
    viewed.replaceChildren(page.getElementById("item"));
    if (!viewer.open) viewer.showModal();
    viewer.scrollTo(0, 0);
    align(viewed.querySelector("[data-first]"));
  } catch (error) {
    if (error.name !== "AbortError") location.assign(address);
  }
}

viewer.addEventListener("cancel", () => asking.abort()); // what was asked for last comes no more

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
  if (event.target === viewer || event.target.closest(".close")) {
    asking.abort();
    viewer.close();
  }
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const address = new URL(link.href);
  if (link.matches(".open, .moments a") && !(link.matches(".moments a") && !viewer.open)) view(link.href);
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

window.addEventListener("popstate", () => (location.search ? show(location.href, "") : location.reload()));

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
