-- include: base activities instances
-- Suspend instances that a worker was given and whose rows cannot be read.
-- ARGV: nonce, again, source, worker, pairs of id and report. Returns the ids of those that were its own.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before
end
local worker = ARGV[4]
local reply = {}
for _, pair in ipairs(cmsgpack.unpack(ARGV[5])) do
  local id, report = pair[1], pair[2]
  local row = redis.call('HMGET', P .. 'i:' .. id, 'status', 'worker', 'seq', 'queue', 'deaths')
  if row[1] == 'running' and row[2] == worker then
    set_status(id, row[3] or next_number('seq'), row[4] or '', 'running', 'suspended')
    redis.call(
      'HSET', P .. 'i:' .. id, 'status', 'suspended', 'outcome', report, 'worker', '', 'sticky', ''
    )
    if is_suspect(row[5]) then
      redis.call('HSET', P .. 'i:' .. id, 'deaths', math.max((tonumber(row[5]) or 0) - 1, 0))
    end
    zrem('held:' .. worker, id)
    reply[#reply + 1] = id
  end
end
flush()
publish(ARGV[3])
return answer(ARGV[1], reply)
