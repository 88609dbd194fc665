"use strict";
// Dead letters: read when somebody asks for them, since that reads a topic of Kafka, and brought back by a button.

const LETTERS = "/admin/dead-letters";

async function letters(said = "") {
  try {
    const found = await ask(LETTERS);
    const readable = found.letters.filter((each) => each.readable).length;
    change("letters-said", `${said}${number(found.count)} dead letters${found.count > found.letters.length ? `, the newest ${found.letters.length} of them` : ""}; of these ${readable} can be read now.`, false);
    fill("letters", found.letters.map(letter));
    byId("letters-part").hidden = false;
    byId("letters-replay").hidden = readable === 0;
  } catch (problem) {
    refused(problem);
  }
}

function letter(each) {
  return [
    cell(`${each.topic}-${each.partition} at ${each.offset}`), cell(new Date(each.timestamp_ms).toISOString().slice(0, 19).replace("T", " ")),
    cell(each.reason, { class: "left" }), cell(each.readable ? each.text : `cannot be read: ${each.text}`, { class: each.readable ? "left" : "left bad" }), cell(number(each.bytes)),
  ];
}

async function replay() {
  byId("letters-replay").disabled = true;
  try {
    const done = await ask(`${LETTERS}/replay`, "POST");
    await letters(`${number(done.replayed)} replayed, ${number(done.unreadable)} cannot be read and stay. `);
  } catch (problem) {
    refused(problem);
  }
  byId("letters-replay").disabled = false;
}

const refused = (problem) => change("letters-said", `${problem.message[0].toUpperCase()}${problem.message.slice(1)}.`, true);

byId("letters-show").addEventListener("click", () => letters());
byId("letters-replay").addEventListener("click", replay);
