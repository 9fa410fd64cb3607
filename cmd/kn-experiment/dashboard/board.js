// The board shows the server's pages, keeps them up to date, and runs verbs of kn experiment.
const $ = id => document.getElementById(id)
const name = document.querySelector("main").dataset.name

// ---- Up to date

let token = tokenOf(document)
let updating = false, again = false

function tokenOf(page) { return page.querySelector("meta[name=board-token]").content }

/** update fetches this page again and replaces its live part, also by a page that says what is wrong. Details that people have opened
 * stay open, and the focus stays. A board that was started again has another token. */
async function update() {
	if (updating) { again = true; return }
	updating = true
	try {
		const answer = await fetch(location.href, { headers: { Accept: "text/html" } })
		const page = new DOMParser().parseFromString(await answer.text(), "text/html")
		const live = $("live"), next = page.getElementById("live")
		token = tokenOf(page)
		for (const details of live.querySelectorAll("details[id]")) next.querySelector("#" + details.id)?.toggleAttribute("open", details.open)
		if (live.innerHTML !== next.innerHTML) {
			const focused = live.contains(document.activeElement) && selectorOf(document.activeElement)
			live.replaceWith(document.adoptNode(next))
			if (focused) focus(focused)
		}
		say("live")
	} catch {
		lose()
	} finally {
		updating = false
		if (again) { again = false; update() }
	}
}

/** selectorOf returns a selector that also finds the element in the next version of the live part. */
function selectorOf(e) {
	if (e.dataset.verb) return `[data-verb="${e.dataset.verb}"]`
	return e.matches("summary") ? `#${e.parentElement.id} > summary` : `a[href="${e.getAttribute("href")}"]`
}

/** focus moves the focus to an element of the live part. If it is gone, for example the button of a verb that is no longer possible,
 * focus takes the first button, or the page. */
function focus(selector) {
	const target = document.querySelector(selector) || document.querySelector("#actions button") || document.querySelector("main")
	target.focus({ preventScroll: true })
}

const say = text => { if ($("updated").textContent !== text) $("updated").textContent = text }

let lost = false

function lose() {
	lost = true
	say("not reachable: is kn experiment dashboard still running?")
}

// The browser connects again by itself. What has changed meanwhile was not announced.
const events = new EventSource("/events")
events.addEventListener("changed", update)
events.addEventListener("error", lose)
events.addEventListener("open", () => {
	if (lost) update()
	lost = false
})

// ---- What can be done

let verb = ""

document.addEventListener("click", e => {
	const button = e.target.closest("[data-verb]")
	if (!button) return
	verb = button.dataset.verb
	$("form").reset()
	$("dialog-title").textContent = $("dialog-go").textContent = button.textContent.replace("…", "")
	$("dialog-says").textContent = button.dataset.says
	const final = button.dataset.final === "true"
	$("dialog-confirm").hidden = !final
	$("dialog-name").textContent = name
	$("form").elements.confirm.required = final
	$("dialog-go").className = button.classList.contains("bad") ? "bad" : "go"
	$("dialog-go").hidden = $("dialog-go").disabled = false
	$("dialog-close").textContent = "Cancel"
	$("dialog-log").hidden = true
	$("dialog-log").textContent = ""
	$("dialog").showModal()
})

$("dialog-close").addEventListener("click", () => $("dialog").close())
$("dialog").addEventListener("close", () => focus(`[data-verb="${verb}"]`)) // the browser returns the focus only to a button that was not replaced

$("form").addEventListener("submit", async e => {
	e.preventDefault()
	const log = $("dialog-log")
	log.hidden = false
	log.textContent = ""
	$("dialog-go").disabled = true
	try {
		const { why, confirm } = Object.fromEntries(new FormData(e.target))
		const answer = await fetch(`/experiments/${encodeURIComponent(name)}/${verb}`, {
			method: "POST", headers: { "Content-Type": "application/json", "X-Board-Token": token }, body: JSON.stringify({ why, confirm }),
		})
		const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
		for (;;) {
			const { value, done } = await reader.read()
			if (done) break
			log.textContent += value
			log.scrollTop = log.scrollHeight
		}
		if (answer.ok) {
			$("dialog-go").hidden = true
			$("dialog-close").textContent = "Close"
			$("dialog-close").focus()
		}
	} catch (problem) {
		log.textContent += `The board is not reachable: ${problem.message}\n`
	}
	$("dialog-go").disabled = false
	if (document.activeElement === document.body) $("dialog-go").focus() // a disabled button loses the focus
	update()
})
