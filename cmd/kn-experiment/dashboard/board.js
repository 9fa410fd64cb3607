// The board shows the server's pages, keeps them up to date, and runs verbs of kn experiment.
const $ = id => document.getElementById(id)
const token = document.querySelector("meta[name=board-token]").content
const name = document.querySelector("main").dataset.name

// ---- Up to date

let updating = false, again = false

/** update fetches this page again and replaces its live part. Details that people have opened stay open, and the focus stays. */
async function update() {
	if (updating) { again = true; return }
	updating = true
	try {
		const answer = await fetch(location.href, { headers: { Accept: "text/html" } })
		if (!answer.ok) throw new Error(String(answer.status))
		const page = new DOMParser().parseFromString(await answer.text(), "text/html")
		const live = $("live"), next = page.getElementById("live")
		if (live.innerHTML !== next.innerHTML) {
			for (const details of live.querySelectorAll("details[id]")) next.querySelector("#" + details.id)?.toggleAttribute("open", details.open)
			const verb = live.contains(document.activeElement) && document.activeElement.dataset.verb
			live.replaceWith(document.adoptNode(next))
			if (verb) document.querySelector(`[data-verb="${verb}"]`)?.focus()
		}
		say("live")
	} catch {
		say("not reachable: is kn experiment dashboard still running?")
	} finally {
		updating = false
		if (again) { again = false; update() }
	}
}

const say = text => { if ($("updated").textContent !== text) $("updated").textContent = text }

const events = new EventSource("/events")
events.addEventListener("changed", update)
events.addEventListener("error", () => say("not reachable: is kn experiment dashboard still running?"))
events.addEventListener("open", () => say("live"))

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
	update()
})
