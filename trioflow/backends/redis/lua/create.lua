-- include: base activities instances ending
-- Create instances. ARGV: nonce, again, source, new instances, 1 if the ids of finished ones may be
-- used again, and to end those first that have the ids: the outcome, and the two parts of the event
-- for its parent (see `terminate_family`), or '' for each. Returns 1 or 0 for each.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before
end
local reuse, replacing = ARGV[5] == '1', ARGV[6]
local reply, changed = {}, false
local wanted = cmsgpack.unpack(ARGV[4])
if replacing ~= '' then
  for _, new in ipairs(wanted) do
    local top = open_row(new.id)
    if top then
      changed = true
      terminate_family(new.id, top, replacing, ARGV[7], ARGV[8])
    end
  end
end
for n, new in ipairs(wanted) do
  local row = redis.call('HMGET', P .. 'i:' .. new.id, 'status', 'execution')
  if row[1] and (not reuse or is_open(row[1])) then
    reply[n] = 0
  else
    reply[n] = 1
    changed = true
    local execution = 1
    if row[1] then
      execution = tonumber(row[2]) + 1
      forget_instance(new.id)
    end
    store_instance(new.id, new, {
      status = 'running', execution = execution, turns = 0, events = 0, worker = '', sticky = '',
    }, execution)
    list_ready(new.id, new.queue, new.priority, nil, '', first_ready(new.start_at))
  end
end
flush()
if changed then
  publish(ARGV[3])
end
return answer(ARGV[1], reply)
