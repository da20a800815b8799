// What the page gains with JavaScript: results without a reload, a viewer, and the keyboard.
"use strict";

const box = document.getElementById("q");
const results = document.getElementById("results");
const viewer = document.getElementById("viewer");
const viewed = document.getElementById("viewed");
let asking = new AbortController();

async function fetchPage(address) {
  asking.abort();
  asking = new AbortController();
  const answer = await fetch(address, { signal: asking.signal });
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

async function show(address, remember) {
  results.setAttribute("aria-busy", "true");
  try {
    const page = await fetchPage(address);
    viewer.close();
    document.title = page.title;
    document.body.className = page.body.className;
    document.querySelector(".hero")?.remove();
    results.replaceChildren(...page.getElementById("results").childNodes);
    document.getElementById("status").textContent = page.getElementById("status").textContent.trim();
    box.value = page.getElementById("q").value;
    document.querySelector(".chips")?.replaceWith(page.querySelector(".chips"));
    if (remember) {
      history.pushState(null, "", address);
      window.scrollTo(0, 0);
    }
    results.removeAttribute("aria-busy");
  } catch (error) {
    if (error.name !== "AbortError") location.assign(address);
  }
}

async function view(link) {
  try {
    const page = await fetchPage(link.href);
    viewed.replaceChildren(page.getElementById("item"));
    if (!viewer.open) viewer.showModal();
    viewer.scrollTo(0, 0);
    viewer.dataset.row = new URL(link.href).pathname;
  } catch (error) {
    if (error.name !== "AbortError") location.assign(link.href);
  }
}

document.querySelector("form.search").addEventListener("submit", (event) => {
  event.preventDefault();
  if (box.value.trim()) show("/?" + new URLSearchParams({ q: box.value }), true);
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (event.target === viewer) viewer.close();
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const address = new URL(link.href);
  if (link.matches(".card")) view(link);
  else if (address.origin === location.origin && address.pathname === "/" && address.search) show(link.href, true);
  else return;
  event.preventDefault();
});

window.addEventListener("popstate", () => (location.search ? show(location.href, false) : location.reload()));

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
  if (event.key === "/" && document.activeElement !== box && !viewer.open) {
    event.preventDefault();
    box.select();
    return;
  }
  if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) return;
  const card = document.activeElement.closest?.(".card");
  const cards = [...(card?.closest(".grid") ?? results).querySelectorAll(".card")];
  let next;
  if (card) next = neighbour(card, event.key, cards);
  else if (document.activeElement === box && event.key === "ArrowDown") next = cards[0];
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.scrollIntoView({ block: "nearest" });
});

const gone = (picture) => picture.closest?.(".frame, .large")?.classList.add("gone");
document.addEventListener("error", (event) => gone(event.target), true);
for (const picture of document.images) if (picture.complete && !picture.naturalWidth) gone(picture);
