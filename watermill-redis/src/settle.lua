-- Tells a group what became of entries, and answers for each with 1, or with 0 if it is not ours any more.
-- KEYS: the stream. ARGV: group, consumer, whom the entries go to that are given back, whether acked entries are
-- deleted, and for each entry: id, how often it was delivered, verb, idle time and deliveries for `release`.
local stream, group, consumer, nobody, delete = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local answers = {}
for at = 5, #ARGV, 5 do
  local id, delivered, verb = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
  local pending = redis.call('XPENDING', stream, group, id, id, 1, consumer)[1]
  local ours = pending and pending[4] == delivered
  if ours and verb == 'ack' then
    redis.call('XACK', stream, group, id)
    if delete == '1' then redis.call('XDEL', stream, id) end
  elseif ours and verb == 'release' then
    redis.call('XCLAIM', stream, group, nobody, 0, id, 'IDLE', ARGV[at + 3], 'RETRYCOUNT', ARGV[at + 4], 'JUSTID')
  elseif ours then
    redis.call('XCLAIM', stream, group, consumer, 0, id, 'JUSTID')
  end
  answers[#answers + 1] = ours and 1 or 0
end
return answers
