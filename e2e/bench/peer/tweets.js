// The tweet service. It asks the auth service about the token of each request.
"use strict"

const http = require("node:http")
const prometheus = require("prom-client")
const { serve, wrap } = require("./service")

const agent = new http.Agent({ keepAlive: true })

/** ask sends a GET request and resolves to the answer's status and its JSON. */
const ask = (url, headers) => new Promise((resolve, reject) => {
  const request = http.get(url, { agent, headers, timeout: 5000 }, (answer) => {
    let text = ""
    answer.setEncoding("utf8")
    answer.on("data", (part) => { text += part })
    answer.on("end", () => {
      try {
        resolve({ status: answer.statusCode, data: JSON.parse(text) })
      } catch (error) {
        reject(error)
      }
    })
    answer.on("error", reject)
  })
  request.on("timeout", () => request.destroy(new Error("the auth service did not answer in time")))
  request.on("error", reject)
})

serve("tweets", (app, { logger, pool, register }) => {
  const created = new prometheus.Counter({ name: "tweets_created_total", help: "Tweets.", registers: [register] })

  const authenticate = wrap(async (req, res, next) => {
    const { status, data } = await ask(process.env.AUTH_URL + "/auth/validate", { authorization: req.get("authorization") || "" })
    if (status !== 200 || !data.valid) {
      res.status(401).json({ error: "unauthorized" })
      return
    }
    req.user = data.user
    next()
  })

  app.post("/tweets", authenticate, wrap(async (req, res) => {
    const { text } = req.body
    if (typeof text !== "string" || text.trim() === "" || text.length > 280) {
      res.status(400).json({ error: "text must have 1 to 280 characters" })
      return
    }
    const { rows } = await pool.query(
      "insert into tweets (user_id, text) values ($1, $2) returning id, user_id, text, created_at", [req.user.id, text])
    created.inc()
    logger.info("tweet created", { tweet: rows[0].id, user: req.user.id })
    res.status(201).json({ data: { ...rows[0], author: req.user } })
  }))

  app.get("/tweets/:id", authenticate, wrap(async (req, res) => {
    const { rows } = await pool.query(
      `select t.id, t.user_id, t.text, t.created_at, u.username, u.name,
         (select count(*) from likes l where l.tweet_id = t.id) as likes,
         (select count(*) from retweets r where r.tweet_id = t.id) as retweets
       from tweets t join users u on u.id = t.user_id
       where t.id = $1`, [req.params.id])
    if (rows.length === 0) {
      res.status(404).json({ error: "no such tweet" })
      return
    }
    res.json({ data: rows[0] })
  }))
})
