// The same day as journey.js, with Twitter's own SDK for TypeScript.
import { Client } from "twitter-api-sdk"

const [base, token, theirs] = process.argv.slice(2)

const client = new Client(token, { base_url: base })

const { data: me } = await client.users.findMyUser()
const mine = []
for (const text of ["one", "two", "three", "four", "five", "six", "seven"]) {
  const { data } = await client.tweets.createTweet({ text })
  mine.push(data.id)
}
console.log(`posted ${mine.length}`)

const { data: first, includes } = await client.tweets.findTweetById(mine[0], { expansions: ["author_id"], "tweet.fields": ["created_at", "public_metrics"] })
console.log(`looked up "${first.text}", mine: ${includes.users[0].username === me.username}, retweets: ${first.public_metrics.retweet_count}`)

const sizes = [], texts = []
for await (const page of client.tweets.usersIdTweets(me.id, { max_results: 5 })) {
  sizes.push(page.data.length)
  texts.push(...page.data.map((t) => t.text))
}
console.log(`paged ${sizes}: ${texts}`)

const { data: retweet } = await client.tweets.usersIdRetweets(me.id, { tweet_id: theirs })
const { data: source } = await client.tweets.findTweetById(theirs, { "tweet.fields": ["public_metrics"] })
console.log(`retweeted: ${retweet.retweeted}, retweets: ${source.public_metrics.retweet_count}`)
const { data: undone } = await client.tweets.usersIdUnretweets(me.id, theirs)
console.log(`retweeted: ${undone.retweeted}`)

const { data: gone } = await client.tweets.deleteTweetById(mine[0])
console.log(`deleted: ${gone.deleted}`)

try {
  await client.tweets.deleteTweetById(theirs)
} catch (error) {
  console.log(`${error.status} ${error.statusText}: ${error.error.errors.map((e) => e.message)}`)
}
