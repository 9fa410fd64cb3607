// What both services have: logs, counters, security headers, JSON, errors, and five connections to PostgreSQL.
"use strict"

const cors = require("cors")
const express = require("express")
const helmet = require("helmet")
const { Pool } = require("pg")
const prometheus = require("prom-client")
const winston = require("winston")

/** serve starts a service: routes adds its own to the app. */
exports.serve = (name, routes) => {
  const logger = winston.createLogger({
    level: "info",
    defaultMeta: { service: name },
    format: winston.format.combine(winston.format.timestamp(), winston.format.json()),
    transports: [new winston.transports.Console()],
  })
  const register = new prometheus.Registry()
  prometheus.collectDefaultMetrics({ register })
  const labels = ["method", "route", "status"]
  const requests = new prometheus.Counter({ name: "http_requests_total", help: "Requests.", labelNames: labels, registers: [register] })
  const durations = new prometheus.Histogram({ name: "http_request_duration_seconds", help: "How long requests took.", labelNames: labels, registers: [register] })
  const pool = new Pool({ max: 5 }) // the address is in PGHOST and similar variables

  const app = express()
  app.use(helmet())
  app.use(cors())
  app.use(express.json())
  app.use((req, res, next) => {
    const end = durations.startTimer()
    res.on("finish", () => {
      const of = { method: req.method, route: req.route ? req.route.path : "none", status: res.statusCode }
      requests.inc(of)
      const seconds = end(of)
      logger.info("request", { ...of, path: req.originalUrl, seconds, ip: req.ip, userAgent: req.get("user-agent") })
    })
    next()
  })
  app.get("/healthz", (req, res) => res.json({ status: "ok" }))
  app.get("/metrics", async (req, res) => res.type(register.contentType).send(await register.metrics()))
  routes(app, { logger, pool, register })
  app.use((error, req, res, next) => {
    logger.error("request failed", { error: error.message, stack: error.stack })
    res.status(error.status || 500).json({ error: error.status ? error.message : "internal server error" })
  })
  const server = app.listen(Number(process.env.PORT), process.env.HOST, () => logger.info("listening", { port: process.env.PORT }))
  server.keepAliveTimeout = 65_000 // Node's 5 s would close connections that the other service is about to use again
}

/** wrap passes what an asynchronous handler throws on to the handler of errors, which Express 4 does not do by itself. */
exports.wrap = (handler) => (req, res, next) => handler(req, res, next).catch(next)
