-- Makes entries ours that are pending, and answers with where to go on and with the entries: id, fields, and how
-- often each was delivered. KEYS: the stream. ARGV: group, consumer, how many, where to begin, and the idle time of
-- those to take from others, or nothing for our own.
local stream, group, consumer, limit, from, idle = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local found, entries = {}, {}
if idle == '' then
  local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', limit, 'STREAMS', stream, from)
  found = read and read[1][2] or {}
  from = #found > 0 and found[#found][1] or '0-0'
else
  -- Each call looks at ten times as many entries as it may take.
  for _ = 1, 100 do
    local claimed = redis.call('XAUTOCLAIM', stream, group, consumer, idle, from, 'COUNT', limit)
    from, found = claimed[1], claimed[2]
    if #found > 0 or from == '0-0' then break end
  end
end
for _, entry in ipairs(found) do
  if entry and entry[2] then
    local pending = redis.call('XPENDING', stream, group, entry[1], entry[1], 1)[1]
    entries[#entries + 1] = { entry[1], entry[2], pending[4] }
  elseif entry then
    -- It was deleted or trimmed.
    redis.call('XACK', stream, group, entry[1])
  end
end
return { from, entries }
