-- Tells a group what became of entries, and answers for each with 1, or with 0 if it is not ours any more.
-- KEYS: the stream. ARGV: group, consumer, whether acked entries are deleted, and for each entry its id and how often
-- it was delivered, then whose it is from now on, or nothing if it is acked, its idle time, and its deliveries.
local stream, group, consumer, delete = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local answers, acked, known = {}, {}, {}
-- Entries are settled in their order as a rule, so one call tells of them all. Those that it does not tell of are asked for alone.
for _, entry in ipairs(redis.call('XPENDING', stream, group, ARGV[4], ARGV[#ARGV - 4], 1000, consumer)) do
  known[entry[1]] = entry
end
for at = 4, #ARGV, 5 do
  local id, delivered, owner = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
  local pending = known[id] or redis.call('XPENDING', stream, group, id, id, 1, consumer)[1]
  local ours = pending and pending[4] == delivered
  if ours and owner == '' then
    acked[#acked + 1] = id
  elseif ours then
    redis.call('XCLAIM', stream, group, owner, 0, id, 'IDLE', ARGV[at + 3], 'RETRYCOUNT', ARGV[at + 4], 'JUSTID')
  end
  answers[#answers + 1] = ours and 1 or 0
end
-- Outcomes are recorded by the thousand at most, which is not too much for `unpack`.
if acked[1] then redis.call('XACK', stream, group, unpack(acked)) end
if acked[1] and delete == '1' then redis.call('XDEL', stream, unpack(acked)) end
return answers
