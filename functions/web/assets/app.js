// The playground. It calls only the public API, and keeps no secret longer than necessary: access tokens in memory, refresh tokens
// in the tab's sessionStorage.

const pollEvery = 4000 // milliseconds; two or three calls each time, well below the limit of reads
const shown = 10 // tweets on a page
const kept = 30 // calls that the page remembers
const firstNames = ["Ada", "Grace", "Alan", "Barbara", "Edsger", "Frances", "Donald", "Katherine", "Dennis", "Radia", "Tony", "Hedy", "Ken", "Margaret", "Niklaus", "Sophie"]

const $ = id => document.getElementById(id)
const people = [] // in the order of the page
const happened = [] // calls, the latest first
let communities = []
let loaded = false // whether the communities have been loaded: there may be none

/** el makes an element: attributes by name, "on" for the click, and children. */
function el(tag, attributes = {}, ...children) {
	const e = document.createElement(tag)
	for (const [name, value] of Object.entries(attributes)) {
		if (name === "on") e.addEventListener("click", value)
		else if (value === true) e.setAttribute(name, "")
		else if (value !== false && value != null) e.setAttribute(name, value)
	}
	e.append(...children.filter(c => c != null))
	return e
}

// ---- The API

/** Failure is an answer that is not a success, or the lack of an answer (status 0). */
class Failure extends Error {
	constructor(status, problem) {
		super(problem.detail || problem.title || "Something went wrong.")
		this.status = status
		this.type = problem.type || ""
	}
	get away() { return this.status === 0 || this.status >= 500 }
}

/** send makes one request. It throws a Failure unless the answer is a success. */
async function send(method, path, { body, token, headers = {}, quiet = false } = {}) {
	if (body) headers["Content-Type"] = "application/json"
	if (token) headers.Authorization = "Bearer " + token
	const begun = performance.now()
	let answer, text = ""
	try {
		answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" })
		text = await answer.text()
	} catch {
		throw new Failure(0, { detail: "there is no connection to Warble" })
	}
	const call = { method, path, body, signed: Boolean(token), key: headers["Idempotency-Key"], status: answer.status, took: Math.round(performance.now() - begun), headers: answer.headers }
	if (!quiet) remember(call)
	let content = null
	try { content = text ? JSON.parse(text) : null } catch { content = null } // a proxy answered, in another format than JSON
	if (!answer.ok) throw new Failure(answer.status, content || { detail: `the answer is ${answer.status}` })
	return { content, headers: answer.headers }
}

/** call makes a request for a person. It renews the access token first if there is none or if it has expired. */
async function call(person, method, path, options = {}) {
	if (!person.token) await renew(person)
	try {
		return await send(method, path, { ...options, token: person.token })
	} catch (failure) {
		if (failure.status !== 401) throw failure
		await renew(person)
		return send(method, path, { ...options, token: person.token })
	}
}

/** renew gets another access token. Calls that need one meanwhile wait for the same renewal. */
function renew(person) {
	person.renewing ||= (async () => {
		try {
			const { content } = await send("POST", "/auth/refresh", { body: { refresh_token: person.refresh }, quiet: true })
			person.token = content.token
			person.refresh = content.refresh_token
			save()
		} catch (failure) {
			if (failure.status === 401) person.ended = true
			throw failure
		} finally {
			person.renewing = null
		}
	})()
	return person.renewing
}

// ---- What survives a reload

function save() {
	sessionStorage.setItem("people", JSON.stringify(people.map(({ id, name, username, community, refresh, mailed }) => ({ id, name, username, community, refresh, mailed }))))
}

function restore() {
	try { return JSON.parse(sessionStorage.getItem("people")) || [] } catch { return [] }
}

// ---- What just happened

function remember(c) {
	happened.unshift(c)
	happened.length = Math.min(happened.length, kept)
	$("nothing").hidden = true
	$("call").hidden = false
	$("call").textContent = describe(c)
	$("earlier").hidden = happened.length < 2
	$("calls").replaceChildren(...happened.slice(1).map(c => el("li", {}, el("code", {}, `${c.method} ${c.path}`), ` ${c.status} · ${c.took} ms${arm(c.headers)}`)))
}

const arm = headers => headers.get("X-Variant") ? " · " + headers.get("X-Variant") : ""

function describe(c) {
	const lines = [`${c.method} ${c.path}`]
	if (c.body) lines.push(JSON.stringify(c.body, (name, value) => /password|token$/.test(name) ? "…" : value))
	lines.push(`${c.status} in ${c.took} ms`)
	for (const name of ["X-Experiment", "X-Variant", "X-Revision", "X-Request-Id"]) {
		if (c.headers.get(name)) lines.push(`${name}: ${c.headers.get(name)}`)
	}
	return lines.join("\n")
}

const snippets = {
	curl(c, url, body) {
		const lines = [`curl -X ${c.method} '${url}'`]
		if (c.signed) lines.push(`-H "Authorization: Bearer $TOKEN"`)
		if (c.key) lines.push(`-H 'Idempotency-Key: ${c.key}'`)
		if (body) lines.push("-H 'Content-Type: application/json'", `-d '${body.replaceAll("'", `'\\''`)}'`)
		return lines.join(" \\\n  ")
	},
	go(c, url, body) {
		const lines = [`request, err := http.NewRequestWithContext(ctx, ${JSON.stringify(c.method)}, ${JSON.stringify(url)}, ${body ? `strings.NewReader(${JSON.stringify(body)})` : "nil"})`, "if err != nil {", "\treturn err", "}"]
		if (c.signed) lines.push(`request.Header.Set("Authorization", "Bearer "+token)`)
		if (c.key) lines.push(`request.Header.Set("Idempotency-Key", ${JSON.stringify(c.key)})`)
		if (body) lines.push(`request.Header.Set("Content-Type", "application/json")`)
		lines.push("answer, err := http.DefaultClient.Do(request)")
		return lines.join("\n")
	},
	js(c, url, body) {
		const headers = []
		if (c.signed) headers.push('    Authorization: `Bearer ${token}`,')
		if (c.key) headers.push(`    "Idempotency-Key": ${JSON.stringify(c.key)},`)
		if (body) headers.push('    "Content-Type": "application/json",')
		return [`const answer = await fetch(${JSON.stringify(url)}, {`, `  method: ${JSON.stringify(c.method)},`,
			...(headers.length ? ["  headers: {", ...headers, "  },"] : []), ...(body ? [`  body: ${JSON.stringify(body)},`] : []), "})"].join("\n")
	},
}

async function copy(language) {
	const c = happened[0]
	if (!c) {
		$("copied").textContent = "There is no call yet."
		return
	}
	const body = c.body && JSON.stringify(c.body, (name, value) => /password|token$/.test(name) ? "…" : value)
	const text = snippets[language](c, location.origin + c.path, body)
	try {
		await navigator.clipboard.writeText(text)
		$("copied").textContent = "Copied."
	} catch { // the browser forbids copying, for example without TLS: show the text, to be copied by hand
		$("call").textContent = text
		getSelection().selectAllChildren($("call"))
		$("copied").textContent = "Selected: copy it now."
	}
}

// ---- People

const random = length => Array.from(crypto.getRandomValues(new Uint8Array(length)), b => "abcdefghijklmnopqrstuvwxyz234567"[b & 31]).join("")

/** addNewPerson registers a new person. The first two share a community and see the same tweets, the next two share another, and so on. */
async function addNewPerson() {
	const name = firstNames[people.length % firstNames.length], tail = random(6)
	const community = communities.length ? communities[(people.length >> 1) % communities.length].slug : undefined
	await addPerson("/auth/register", { name, username: `${name.toLowerCase().slice(0, 8)}_${tail}`, email: `${name.toLowerCase()}.${tail}@example.org`, password: random(24), community })
}

/** addPerson adds the person whom a POST to path registers or logs in. mailed says whether their address is real, so that they may want to verify it. */
async function addPerson(path, body, mailed = false) {
	const { content } = await send("POST", path, { body })
	const claims = await send("GET", "/auth/validate", { token: content.token, quiet: true }).catch(() => null)
	people.push(newPerson({ ...content.data, community: claims ? claims.content.community : body.community, refresh: content.refresh_token, token: content.token, mailed }))
	save()
	explainArms()
	await people.at(-1).refresh_all()
}

/** busy does a button's work. Meanwhile the button is disabled, and gets the focus back afterwards unless the work has moved it. If the
 * work fails, notice says why. */
async function busy(button, notice, work) {
	const focused = document.activeElement === button
	button.disabled = true
	try {
		await work()
		notice.hidden = true
	} catch (failure) {
		if (!(failure instanceof Failure)) throw failure
		complain(notice, failure, "Nothing you wrote is lost: press the button again in a moment.")
	} finally {
		button.disabled = false
		if (focused && document.activeElement === document.body) button.focus()
	}
}

function complain(notice, failure, advice = "What you see may be old. This page tries again by itself.") {
	const text = failure.away ? `Warble cannot answer at the moment. ${advice}` : sentence(failure.message)
	if (notice.textContent !== text) notice.textContent = text // so that a screen reader reads it only once
	notice.hidden = false
}

const sentence = text => text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".")

/** newPerson makes a person and their card, with everything that the card does. */
function newPerson(data) {
	const person = { ...data, tweets: new Map(), authors: new Map(), liked: null, asked: null, retweeted: new Set(), newest: "", older: "", ticks: 0 }
	const heading = `person-${person.id}`
	const badge = el("span", { class: "arm" }, "…"), served = el("p", { class: "small soft" }), notice = el("p", { class: "notice", role: "alert", hidden: true })
	const text = el("textarea", { "aria-label": `What is happening, ${person.name}?`, placeholder: "What is happening?", rows: 2 })
	const left = el("span", { class: "small soft", "aria-live": "off" }, "280")
	const tweet = el("button", { type: "submit", class: "go" }, "Tweet")
	const list = el("div", { class: "tweets", role: "feed", "aria-labelledby": heading, hidden: true })
	const more = el("button", { type: "button", on: () => busy(more, notice, older), hidden: true }, "Older tweets")
	const empty = el("p", { class: "soft" }, "No tweets yet. Write the first one.")
	const thanks = el("span", { class: "small soft", role: "status" })
	const stars = el("fieldset", { class: "stars" }, el("legend", { class: "small soft" }, "How do you like Warble?"), ...[1, 2, 3, 4, 5].map(score =>
		el("button", { type: "button", class: "plain", "aria-label": `${score} of 5 stars`, "aria-pressed": "false", on: e => rate(score, e.currentTarget) }, "☆")))
	const verify = el("button", { type: "button", class: "plain small", hidden: !person.mailed, on: () => busy(verify, notice, async () => {
		await call(person, "POST", "/auth/verify-email/resend")
		thanks.textContent = "A mail with a link is on its way."
	}) }, "Verify my address")
	const form = el("form", { class: "compose" }, text, el("div", { class: "row" }, tweet, left))
	const card = el("section", { class: "card", "aria-labelledby": heading },
		el("div", { class: "row" }, el("h2", { id: heading }, person.name), el("span", { class: "small soft" }, `@${person.username}${person.community ? " · " + person.community : ""}`), badge),
		served, notice, form, empty, list, el("div", { class: "row" }, more),
		el("div", { class: "row foot" }, stars, thanks, el("span", { class: "grow" }), verify, el("button", { type: "button", class: "plain small", "aria-label": `Sign out, ${person.name}`, on: () => person.leave() }, "Sign out")))
	$("people").append(card)

	text.addEventListener("input", () => {
		const weight = weigh(text.value.normalize("NFC"))
		left.textContent = String(280 - weight)
		left.classList.toggle("over", weight > 280)
	})
	text.addEventListener("keydown", e => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) form.requestSubmit() })
	let key = "" // of the tweet that is being sent, so that a second try does not post it twice
	text.addEventListener("input", () => { key = "" })
	form.addEventListener("submit", e => {
		e.preventDefault()
		busy(tweet, notice, async () => {
			key ||= crypto.getRandomValues(new Uint32Array(4)).join("-")
			await call(person, "POST", "/2/tweets", { body: { text: text.value }, headers: { "Idempotency-Key": key } })
			text.value = ""
			text.dispatchEvent(new Event("input"))
			text.focus()
			await person.news()
		})
	})

	async function rate(score, button) {
		await busy(button, notice, async () => {
			await call(person, "POST", "/feedback", { body: { score }, headers: {} })
			for (const [i, star] of [...stars.querySelectorAll("button")].entries()) {
				star.textContent = i < score ? "★" : "☆"
				star.setAttribute("aria-pressed", String(i + 1 === score))
			}
			thanks.textContent = "Thank you."
		})
	}

	/** timeline reads a page of the timeline, and shows the person's arm, which the answer's headers name. */
	async function timeline(query, quiet) {
		const { content, headers } = await call(person, "GET", `/2/users/${person.id}/timelines/reverse_chronological?max_results=${shown}&expansions=author_id,referenced_tweets.id,referenced_tweets.id.author_id${query}`, { quiet })
		const experiment = headers.get("X-Experiment"), variant = headers.get("X-Variant"), revision = headers.get("X-Revision")
		badge.textContent = variant || "no experiment"
		badge.classList.toggle("treatment", variant === "treatment")
		served.replaceChildren(...(experiment ? [experiment + " · "] : []), ...(revision ? ["served by ", el("code", {}, revision)] : []))
		person.arm = `${experiment}/${variant}`
		explainArms()
		for (const user of content.includes?.users || []) person.authors.set(user.id, user)
		for (const t of content.includes?.tweets || []) person.authors.set("tweet " + t.id, t)
		return content
	}

	/** page adds a page of older tweets. Without a token the list begins again with the newest tweets. */
	person.page = async (token, quiet = false) => {
		const content = await timeline(token ? "&pagination_token=" + token : "", quiet)
		if (token && token !== person.older) return // the list has begun again meanwhile
		if (!token) {
			person.tweets.forEach(row => row.element.remove())
			person.tweets.clear()
			person.newest = content.meta.newest_id || ""
		}
		person.older = content.meta.next_token || ""
		content.data.forEach(t => put(t, false))
		settle()
	}
	async function older() {
		const last = list.lastElementChild
		await person.page(person.older)
		if (more.hidden) last?.nextElementSibling?.focus({ preventScroll: true }) // because the button, which had the focus, is gone
	}
	/** news adds what is new since the last answer. If it is more than a page, the list begins again, so that no tweet is left out. */
	person.news = async (quiet = true) => {
		const content = await timeline(person.newest ? "&since_id=" + person.newest : "", quiet)
		if (content.meta.next_token) return person.page("", quiet)
		if (content.meta.newest_id) person.newest = content.meta.newest_id
		content.data.toReversed().forEach(t => put(t, true))
	}
	/** likes reads what the person likes. If the arm has no likes, the answer is a 404 of its own type, and likes asks again
	 * only when the arm has changed. It never asks in the control, which has no likes. */
	async function likes() {
		if (!person.liked && (person.asked === person.arm || person.arm.endsWith("/control"))) return
		person.asked = person.arm
		try {
			const { content } = await call(person, "GET", `/2/users/${person.id}/liked_tweets?max_results=100`, { quiet: true })
			person.liked = new Set(content.data.map(t => t.id))
		} catch (failure) {
			if (!failure.type.endsWith("/feature-not-open")) { person.asked = null; throw failure }
			person.liked = null
		}
		person.tweets.forEach(show)
	}
	/** counts updates the tweets on the card, and removes those that were deleted. */
	async function counts() {
		const ids = [...person.tweets.keys()].slice(0, 100)
		if (!ids.length) return
		const { content } = await call(person, "GET", `/2/tweets?ids=${ids.join(",")}`, { quiet: true })
		for (const t of content.data) {
			const row = person.tweets.get(t.id)
			if (row) { row.data = t; show(row) }
		}
		for (const e of content.errors || []) drop(e.value)
	}
	person.refresh_all = async () => {
		try {
			await person.page("")
			await likes()
			await person.readRetweets()
			notice.hidden = true
		} catch (failure) { fail(failure) }
	}
	/** readRetweets reads which tweets the person has retweeted, so that another click undoes the retweet. */
	person.readRetweets = async () => {
		const { content } = await call(person, "GET", `/2/users/${person.id}/tweets?max_results=100&exclude=replies`, { quiet: true })
		person.retweeted = new Set(content.data.flatMap(t => t.referenced_tweets || []).map(r => r.id))
		person.tweets.forEach(show)
	}
	person.tick = async () => {
		if (person.ended) return
		try {
			if (badge.textContent === "…") { await person.refresh_all(); return }
			await person.news()
			await counts()
			if (person.ticks++ % 2 === 0) await likes()
			notice.hidden = true
		} catch (failure) { fail(failure) }
	}
	function fail(failure) {
		if (!(failure instanceof Failure)) throw failure
		if (person.ended) {
			notice.textContent = "This session has ended. Sign in again, or sign out here."
			notice.hidden = false
			return
		}
		complain(notice, failure)
	}
	person.leave = async () => {
		people.splice(people.indexOf(person), 1)
		card.remove()
		save()
		explainArms()
		$("add").focus()
		await send("POST", "/auth/logout", { body: { refresh_token: person.refresh } }).catch(() => null) // if this fails, the session expires later
	}

	/** put adds a tweet to the list, or updates the tweet there. A retweet shows the text of its source. */
	function put(data, atTop) {
		if (!person.tweets.has(data.id)) {
			const row = newRow(data)
			person.tweets.set(data.id, row)
			if (atTop) { list.prepend(row.element); row.element.classList.add("new") } else list.append(row.element)
		}
		const row = person.tweets.get(data.id)
		row.data = data
		show(row)
	}
	function drop(id) {
		person.tweets.get(id)?.element.remove()
		person.tweets.delete(id)
		settle()
	}
	function settle() {
		empty.hidden = person.tweets.size > 0
		list.hidden = !empty.hidden // an empty element must not have the role feed
		more.hidden = !person.older
	}
	function newRow(data) {
		const source = data.referenced_tweets?.[0]?.id
		const original = source && person.authors.get("tweet " + source)
		const by = person.authors.get(data.author_id), author = original ? person.authors.get(original.author_id) : by
		const id = `tweet-${person.id}-${data.id}`
		const time = el("time", { class: "small soft", datetime: data.created_at })
		const retweet = el("button", { type: "button", class: "plain small", on: () => toggle("retweets", retweet) })
		const like = el("button", { type: "button", class: "plain small", on: () => toggle("likes", like), hidden: true })
		const remove = data.author_id === person.id && !source && el("button", { type: "button", class: "plain small", "aria-label": "Delete this tweet", on: () => busy(remove, notice, async () => {
			await call(person, "DELETE", "/2/tweets/" + data.id)
			drop(data.id)
			text.focus()
		}) }, "Delete")
		const element = el("article", { class: "tweet", "aria-labelledby": id, tabindex: "-1" },
			source ? el("div", { class: "small soft" }, `↻ ${by?.name || "Somebody"} retweeted`) : null,
			el("div", {}, el("strong", { id }, author?.name || "Somebody"), " ", time),
			el("p", {}, original?.text || data.text),
			el("div", { class: "row" }, retweet, like, remove || null))
		const row = { data, element, time, retweet, like, subject: source || data.id }
		async function toggle(what, button) {
			const set = what === "likes" ? person.liked : person.retweeted, on = set.has(row.subject)
			await busy(button, notice, async () => {
				if (on) await call(person, "DELETE", `/2/users/${person.id}/${what}/${row.subject}`)
				else await call(person, "POST", `/2/users/${person.id}/${what}`, { body: { tweet_id: row.subject }, headers: {} })
				if (on) set.delete(row.subject)
				else set.add(row.subject)
				await counts()
				if (what === "retweets") await person.news()
			})
		}
		return row
	}
	function show(row) {
		const m = row.data.public_metrics, retweeted = person.retweeted.has(row.subject)
		label(row.retweet, `↻ ${m.retweet_count}`, `Retweet, ${count(m.retweet_count, "retweet")}`, retweeted, "on")
		row.like.hidden = !person.liked
		const liked = person.liked?.has(row.subject)
		label(row.like, `${liked ? "♥" : "♡"} ${m.like_count}`, `Like, ${count(m.like_count, "like")}`, liked, "liked")
		row.time.textContent = ago(row.data.created_at)
		settle()
	}
	settle()
	return person
}

function label(button, text, spoken, pressed, style) {
	if (button.textContent !== text) button.textContent = text
	button.setAttribute("aria-label", spoken)
	button.setAttribute("aria-pressed", String(Boolean(pressed)))
	button.classList.toggle(style, Boolean(pressed))
}

const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`

function ago(time) {
	const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000))
	for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
		if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`
	}
	return `${seconds} s`
}

/** explainArms writes the sentence above the cards, which says what they show. */
function explainArms() {
	const arms = new Set(people.map(p => p.arm).filter(Boolean)) // of the people who have had an answer
	let text = "Each person is in one arm of the experiment and stays there. In the treatment there is a heart under each tweet; in the control there is none."
	if (people.length < 2) text = "Adding a person takes one click. An experiment gives each person one version of Warble, called their arm, and they keep it."
	else if (arms.size === 1 && arms.has("null/null")) text = "No experiment is running, so everyone gets the same version of Warble."
	else if (arms.size < 2 && people.every(p => p.arm)) text = "Each person is in one arm of the experiment and stays there. These are all in the same arm: add people until one is in the other."
	if ($("lead").textContent !== text) $("lead").textContent = text
}

// ---- The length of a tweet as X counts it. This is an estimate; functions/tweet decides

const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" })

// Punctuation after a link, and a parenthesis around it, are not part of it.
const links = /https?:\/\/(?:[^\s<>"()]|\([^\s<>"()]*\))*(?:[^\s<>"().,:;!?']|\([^\s<>"()]*\))/gi

function weigh(text) {
	let total = 0
	const rest = text.replace(links, () => { total += 23; return "" })
	for (const { segment } of graphemes.segment(rest)) {
		if (/\p{Emoji_Presentation}|\p{Extended_Pictographic}\uFE0F|^[\d#*]\uFE0F?\u20E3$|^\p{RI}\p{RI}$/u.test(segment)) { total += 2; continue }
		for (const c of segment) {
			const code = c.codePointAt(0)
			total += code <= 4351 || code >= 8192 && code <= 8205 || code >= 8208 && code <= 8223 || code >= 8242 && code <= 8247 ? 1 : 2
		}
	}
	return total
}

// ---- The form

let signingUp = false

function shape() {
	const form = $("form")
	$("dialog-title").textContent = signingUp ? "Create an account" : "Sign in"
	$("form-go").textContent = signingUp ? "Create" : "Sign in"
	$("form-other").textContent = signingUp ? "Have an account? Sign in" : "New here? Create an account"
	for (const l of form.querySelectorAll(".new")) l.hidden = !signingUp
	$("forgot").hidden = signingUp
	form.elements.password.autocomplete = signingUp ? "new-password" : "current-password"
	$("form-problem").hidden = true
}

$("enter").addEventListener("click", () => { signingUp = false; shape(); $("dialog").showModal() })
$("form-other").addEventListener("click", () => { signingUp = !signingUp; shape() })
$("form-cancel").addEventListener("click", () => $("dialog").close())
$("form").addEventListener("submit", e => {
	e.preventDefault()
	const { name, email, password, community } = Object.fromEntries(new FormData(e.target))
	busy($("form-go"), $("form-problem"), async () => {
		await addPerson(signingUp ? "/auth/register" : "/auth/login", signingUp ? { name, email, password, community: community || undefined } : { email, password }, true)
		e.target.reset()
		$("dialog").close()
	})
})

// ---- Start

$("add").addEventListener("click", () => busy($("add"), $("notice"), async () => {
	if (!loaded) await loadCommunities() // in case Warble did not answer when the page was loaded
	await addNewPerson()
}))
for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button.dataset.copy))
$("host").textContent = location.host

async function loadCommunities() {
	communities = (await send("GET", "/communities", { quiet: true })).content.data
	loaded = true
	$("form").elements.community.replaceChildren(el("option", { value: "" }, "None"), ...communities.map(c => el("option", { value: c.slug }, c.name)))
}

people.push(...restore().map(newPerson))
explainArms()
await Promise.all([loadCommunities().then(() => { $("notice").hidden = true }, failure => complain($("notice"), failure)), ...people.map(p => p.refresh_all())])
for (;;) {
	await new Promise(wake => setTimeout(wake, pollEvery))
	if (document.hidden) continue
	if (!loaded) await loadCommunities().then(() => { $("notice").hidden = true }, failure => complain($("notice"), failure))
	await Promise.all(people.map(p => p.tick()))
}
