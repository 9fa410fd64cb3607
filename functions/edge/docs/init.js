// Shows the contract. The token of Authorize is kept in the tab, so that a reload does not ask for it again.
const kept = "docs-token"

const keeping = () => ({
	statePlugins: {
		auth: {
			wrapActions: {
				authorize: authorize => payload => {
					sessionStorage.setItem(kept, payload.bearer.value)
					return authorize(payload)
				},
				logout: logout => payload => {
					sessionStorage.removeItem(kept)
					return logout(payload)
				},
			},
		},
	},
})

const ui = SwaggerUIBundle({
	url: "/openapi.yaml",
	dom_id: "#swagger-ui",
	deepLinking: true,
	docExpansion: "list",
	validatorUrl: null, // which would send the contract to somebody else
	plugins: [keeping],
	onComplete() {
		const token = sessionStorage.getItem(kept)
		if (token) ui.preauthorizeApiKey("bearer", token)
	},
})

// What Swagger UI leaves undone for keyboards and screen readers: a name of the list of servers, examples that scroll and cannot be
// reached, and links inside of buttons, which do what their button does. A link to an operation still opens it.
new MutationObserver(() => {
	document.querySelector("#servers:not([aria-label])")?.setAttribute("aria-label", "Server")
	for (const example of document.querySelectorAll("pre.microlight:not([tabindex])")) example.tabIndex = 0
	for (const link of document.querySelectorAll("button a[href]")) link.removeAttribute("href")
}).observe(document.getElementById("swagger-ui"), { childList: true, subtree: true, attributes: true, attributeFilter: ["href"] })
