-- include: base activities instances
-- Create instances. ARGV: nonce, again, source, new instances. Returns 1 or 0 for each.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before
end
local reply, born = {}, {}
for n, new in ipairs(cmsgpack.unpack(ARGV[4])) do
  local row = redis.call('HMGET', P .. 'i:' .. new.id, 'status', 'execution')
  if row[1] and is_open(row[1]) then
    reply[n] = 0
  else
    reply[n] = 1
    born[1] = true
    local execution = 1
    if row[1] then
      execution = tonumber(row[2]) + 1
      forget_instance(new.id)
    end
    store_instance(new.id, new, {
      status = 'running', execution = execution, turns = 0, events = 0, worker = '', sticky = '',
    }, execution)
    list_ready(new.id, new.queue, new.priority, nil, '', now)
  end
end
flush()
if born[1] then
  publish(ARGV[3])
end
return answer(ARGV[1], reply)
