// Sends the page's own forms without loading the page again, keeps drafts, and loads older memos on scrolling. All of it
// also works without: the server answers the script with the part of the page that changed, made by the same templates.

const words = document.body.dataset;
const language = document.documentElement.lang;
const status = document.getElementById("status");
const list = document.getElementById("memos");
const composer = document.getElementById("new");
const drafts = words.draft ? `memo.draft.${words.draft}` : null;

/* ---- times ---- */

const RELATIVE_DAYS = 7;
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];
const relative = new Intl.RelativeTimeFormat(language, { numeric: "always" });

function showTime(element) {
  const moment = new Date(element.dateTime);
  const seconds = (Date.now() - moment) / 1000;
  element.title = moment.toLocaleString(language, { dateStyle: "full", timeStyle: "short" });
  const unit = UNITS.find(([, size]) => seconds >= size);
  if (seconds >= RELATIVE_DAYS * 86400) element.textContent = moment.toLocaleDateString(language, { dateStyle: "long" });
  else element.textContent = unit ? relative.format(-Math.floor(seconds / unit[1]), unit[0]) : words.justNow;
}

function showTimes(root = document) {
  root.querySelectorAll("time").forEach(showTime);
}

/* ---- asking the server ---- */

function say(text) {
  const message = document.createElement("div");
  message.id = "message";
  message.className = "message error";
  message.textContent = text;
  status.replaceChildren(message);
}

// The document that a form or a link leads to, or null after saying why there is none.
async function ask(url, options = {}) {
  let response, text;
  try {
    response = await fetch(url, { ...options, headers: { Accept: "text/html", "X-Memo-Fragment": "1" } });
    text = await response.text();
  } catch {
    say(words.unreachable);
    return null;
  }
  const part = new DOMParser().parseFromString(text, "text/html");
  const message = part.getElementById("message");
  if (message) {
    if (!response.ok) message.classList.add("message", "error");
    status.replaceChildren(document.adoptNode(message));
  } else if (!response.ok) {
    say(words.unreadable);
  } else if (options.method) {
    status.replaceChildren(); // only reading leaves the message, and its "undo", where it is
  }
  showTimes(part);
  return { ok: response.ok, part };
}

async function send(form, submitter) {
  const button = submitter ?? form.querySelector("button");
  button.disabled = true;
  try {
    return await ask(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  } finally {
    button.disabled = false;
  }
}

/* ---- the list ---- */

const pinnedFirst = list?.dataset.order === "pinned";
const before = (a, b) => (pinnedFirst && b.dataset.pinned - a.dataset.pinned) || b.dataset.id - a.dataset.id;

function place(item) {
  const old = document.getElementById(item.id);
  if (old && (!pinnedFirst || old.dataset.pinned === item.dataset.pinned)) {
    old.replaceWith(item);
    return item;
  }
  old?.remove();
  const next = [...list.children].find((other) => before(item, other) < 0);
  // One that belongs below what is loaded comes when the rest does.
  if (!next && document.getElementById("older") && list.children.length) return null;
  list.insertBefore(item, next ?? null);
  return item;
}

function received(part) {
  const item = part.querySelector("li.memo");
  return item ? place(document.adoptNode(item)) : null;
}

function showEmpty() {
  document.getElementById("empty").hidden = list.children.length > 0;
}

list?.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches(".pin, .delete")) return;
  event.preventDefault();
  const answer = await send(form, event.submitter);
  if (!answer?.ok) return;
  if (form.matches(".pin")) {
    received(answer.part)?.querySelector(".pin button").focus();
  } else {
    form.closest(".memo").remove();
    status.querySelector("button")?.focus();
  }
  showEmpty();
});

status.addEventListener("submit", async (event) => {
  if (!list || !event.target.matches(".restore")) return;
  event.preventDefault();
  const answer = await send(event.target, event.submitter);
  if (answer?.ok) received(answer.part)?.querySelector(".edit").focus();
  showEmpty();
});

/* ---- older memos ---- */

let loading = false;

async function loadOlder() {
  const older = document.getElementById("older");
  if (!older || loading) return;
  loading = true;
  const answer = await ask(older.href);
  loading = false;
  if (!answer?.ok) return;
  const items = [...answer.part.querySelectorAll("#memos > li")].filter((item) => !document.getElementById(item.id));
  list.append(...items.map((item) => document.adoptNode(item)));
  const next = answer.part.getElementById("older");
  if (next) older.href = next.href;
  else older.remove();
  showEmpty();
  watch();
}

const seen = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && loadOlder(), {
  rootMargin: "600px",
});

// Watching anew tells at once whether the link is still in sight.
function watch() {
  seen.disconnect();
  const older = document.getElementById("older");
  if (older) seen.observe(older);
}

document.getElementById("older")?.addEventListener("click", (event) => {
  event.preventDefault();
  loadOlder();
});

/* ---- drafts: what is typed outlives a lost connection and a session that ended ---- */

// A browser may refuse storage (private windows, policies); writing then works without drafts.
function stored(work) {
  try {
    return work(localStorage);
  } catch {
    return null;
  }
}

function readDraft(name) {
  const value = drafts && stored((storage) => storage.getItem(`${drafts}.${name}`));
  return value ? JSON.parse(value) : null;
}

function writeDraft(name, draft) {
  if (!drafts) return;
  stored((storage) =>
    draft?.text.trim() ? storage.setItem(`${drafts}.${name}`, JSON.stringify(draft)) : storage.removeItem(`${drafts}.${name}`),
  );
}

function forgetDrafts() {
  stored((storage) =>
    Object.keys(storage)
      .filter((key) => drafts && key.startsWith(drafts))
      .forEach((key) => storage.removeItem(key)),
  );
}

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

if (composer) {
  const field = composer.elements.text;
  const key = composer.elements.key;
  const draft = readDraft("new");
  if (draft && !field.value) {
    field.value = draft.text;
    key.value = draft.key;
    composer.querySelector(".hint").textContent = words.draftBack;
  }
  let tried = draft?.text ?? null;
  const keep = () => writeDraft("new", { text: field.value, key: key.value });
  field.addEventListener("input", () => {
    // The key names one text: the same again after a lost answer makes no second memo, another text does.
    if (tried !== null && field.value !== tried) {
      key.value = newKey();
      tried = null;
    }
    keep();
  });
  composer.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = (tried = field.value);
    keep();
    const answer = await send(composer, event.submitter);
    if (!answer?.ok) {
      field.focus();
      return;
    }
    key.value = newKey();
    tried = null;
    if (field.value === text) field.value = "";
    keep();
    if (list.dataset.first !== "1") {
      location.assign(location.pathname);
      return;
    }
    received(answer.part)?.classList.add("new-here");
    showEmpty();
    field.focus();
  });
}

/* ---- editing in place ---- */

async function edit(link) {
  const answer = await ask(link.href);
  const form = answer?.ok ? answer.part.querySelector(".edit-form") : null;
  if (!form) return;
  const memo = link.closest(".memo");
  const parts = [...memo.children];
  parts.forEach((part) => (part.hidden = true));
  memo.append(document.adoptNode(form));
  begin(form, () => {
    form.remove();
    parts.forEach((part) => (part.hidden = false));
    link.focus();
  });
}

function begin(form, close) {
  const field = form.elements.text;
  const name = form.dataset.id;
  const draft = readDraft(name);
  if (draft && draft.text !== field.value) field.value = draft.text;
  field.focus();
  field.addEventListener("input", () => writeDraft(name, { text: field.value }));
  form.querySelector(".cancel").addEventListener("click", (event) => {
    writeDraft(name, null);
    if (!close) return;
    event.preventDefault();
    close();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    writeDraft(name, { text: field.value });
    const answer = await send(form, event.submitter);
    if (!answer) return;
    if (!answer.ok) {
      const again = answer.part.querySelector(".edit-form");
      if (!again) return;
      form.replaceWith(document.adoptNode(again));
      begin(again, close);
      return;
    }
    writeDraft(name, null);
    if (list) received(answer.part)?.querySelector(".edit").focus();
    else location.assign(form.querySelector(".cancel").href);
  });
}

list?.addEventListener("click", (event) => {
  const link = event.target.closest("a.edit");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  edit(link);
});
if (!list) document.querySelectorAll(".edit-form").forEach((form) => begin(form, null));

/* ---- keys, and leaving ---- */

document.addEventListener("keydown", (event) => {
  if (event.isComposing) return; // a Korean syllable is being put together
  const field = event.target.closest?.("textarea");
  if (field && event.key === "Enter" && (event.ctrlKey || event.metaKey)) field.form.requestSubmit();
  if (field && event.key === "Escape" && field.value === field.defaultValue) field.form.querySelector(".cancel")?.click();
  if (event.key === "/" && !event.target.closest?.("input, textarea")) {
    const search = document.getElementById("q");
    if (!search) return;
    event.preventDefault();
    search.select();
    search.focus();
  }
});

document.getElementById("logout")?.form.addEventListener("submit", (event) => {
  // Whoever uses this browser next must not find what was typed.
  if (readDraft("new") && !confirm(words.discard)) event.preventDefault();
  else forgetDrafts();
});
document.getElementById("delete-account")?.addEventListener("submit", forgetDrafts);

showTimes();
setInterval(showTimes, 60000);
watch();
// The message was shown; loading the page again should not show it again.
const address = new URL(location.href);
if (address.searchParams.has("notice")) {
  ["notice", "undo"].forEach((name) => address.searchParams.delete(name));
  history.replaceState(null, "", address);
}
