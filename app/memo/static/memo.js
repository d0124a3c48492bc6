// Saves, deletes and shows older memos without loading the page again. Everything here also works
// without it, by the forms and links. Memo text only ever becomes text, never markup.

const api = location.pathname + "memo";
const list = document.getElementById("memos");
const message = document.getElementById("message");
const form = document.getElementById("new");
const older = document.getElementById("older");
const json = { Accept: "application/json" };

function say(text) {
  message.textContent = text;
  message.hidden = !text;
}

async function ask(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { ...options, headers: { ...json, ...options.headers } });
  } catch {
    throw new Error("The server cannot be reached. Your text is still here; try again.");
  }
  if (response.status === 401) throw new Error("Your session is over. Copy your text, then load the page again to log in.");
  if (response.status === 204) return null;
  let body;
  try {
    body = await response.json();
  } catch {
    throw new Error("The server gave an answer that cannot be read. Try again in a moment.");
  }
  if (!response.ok) throw new Error(body.detail || body.title);
  return body;
}

function localTime(element) {
  const moment = new Date(element.dateTime);
  if (!Number.isNaN(moment.getTime())) {
    element.textContent = moment.toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  }
}

function card(memo) {
  const item = document.getElementById("memo-template").content.cloneNode(true).firstElementChild;
  item.querySelector(".text").textContent = memo.text;
  const time = item.querySelector("time");
  time.dateTime = memo.created_at;
  localTime(time);
  const remove = item.querySelector("form.delete");
  remove.action = remove.getAttribute("action").replace(/0\/delete$/, `${memo.id}/delete`);
  return item;
}

function showEmpty() {
  document.getElementById("empty").hidden = list.children.length > 0;
}

async function busy(button, work) {
  button.disabled = true;
  say("");
  try {
    await work();
  } catch (error) {
    say(error.message);
  } finally {
    button.disabled = false;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const field = form.elements.text;
  busy(event.submitter ?? form.querySelector("button"), async () => {
    const memo = await ask(api, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ text: field.value }),
    });
    form.reset();
    field.value = "";
    if (list.dataset.first === "1") list.prepend(card(memo));
    else location.assign(location.pathname);
    showEmpty();
    field.focus();
  });
});

document.getElementById("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) form.requestSubmit();
});

list.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!confirm("Delete this memo?")) return;
  const id = /(\d+)\/delete$/.exec(event.target.getAttribute("action"))[1];
  busy(event.submitter ?? event.target.querySelector("button"), async () => {
    await ask(`${api}/${id}`, { method: "DELETE" });
    event.target.closest(".memo").remove();
    showEmpty();
  });
});

older?.addEventListener("click", (event) => {
  event.preventDefault();
  busy(older, async () => {
    const cursor = new URL(older.href).searchParams.get("cursor");
    const page = await ask(`${api}?limit=50&cursor=${encodeURIComponent(cursor)}`);
    list.append(...page.memos.map(card));
    if (page.next === null) older.remove();
    else older.href = `?cursor=${page.next}`;
  });
});

document.querySelectorAll("time").forEach(localTime);
// The message was shown; loading the page again should not show it again.
if (new URLSearchParams(location.search).has("notice")) history.replaceState(null, "", location.pathname);
