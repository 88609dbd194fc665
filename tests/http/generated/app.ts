// Sends and asks with the types that openapi-typescript made: `node app.js URL`.
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { paths } from "./schema";

const baseUrl = process.argv[2];
const { GET, POST } = createClient<paths>({ baseUrl });
const now = new Date();
const date = now.toISOString().slice(0, 10);
const key = "typescript /users/{id}"; // a key that must be escaped in a path

for (let time = 0; time < 2; time++) { // the same ids again count once
  const body = [10, 20].map((value) => ({ key, value, timestamp: now.toISOString(), id: `${value}` }));
  const { data } = await POST("/samples", { body });
  assert.deepEqual(data, { accepted: 2, rejected: [] });
}
assert.equal((await POST("/samples", { body: { key, value: 30 } })).data?.accepted, 1);
assert.equal((await POST("/samples", { body: [key, 40] })).data?.accepted, 1);
assert.equal((await POST("/samples", { body: [[key, 50, now.getTime() / 1000]] })).data?.accepted, 1);
const hour = Math.floor(now.getTime() / 3_600_000);
assert.equal((await POST("/samples", { body: { series: [{ key, hour, first: 0, values: [60] }] } })).data?.accepted, 1);
const partly = await POST("/samples", { body: [[key, 70], [key, -1]] });
assert.equal(partly.data?.rejected[0]?.reason, "value");
// @ts-expect-error a value is a number, and the compiler says so
const refused = await POST("/samples", { body: { key, value: "fast" } });
assert.equal(refused.error?.status, 400);

// where a format may be chosen an answer is JSON or the text of a CSV; without one chosen it is JSON
function json<T>(answer: T): Exclude<T, string | undefined> {
  assert.equal(typeof answer, "object");
  return answer as Exclude<T, string | undefined>;
}
const asked = { params: { path: { key, date, stat: "sum" } } };
const ask = () => GET("/{key}/{stat}/{date}", asked);
let { data, response } = await ask();
for (let tries = 0; tries < 600 && (!response.ok || json(data).count < 7); tries++) {
  await pause(100);
  ({ data, response } = await ask());
}
const sum = json(data);
assert.ok("value" in sum);
assert.deepEqual([sum.value, sum.count, sum.exact, sum.duplicates], [280, 7, true, 2]);
const absent = await GET("/{key}/{stat}/{date}/{hour}", { params: { path: { key: "absent", date, stat: "max", hour: "0" } } });
assert.equal(absent.error?.status, 404);
const keys = await GET("/keys", { params: { query: { prefix: "typescript" } } });
assert.deepEqual(json(keys.data).keys, [key]);
