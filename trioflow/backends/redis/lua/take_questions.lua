-- include: base activities instances
-- Give questions to a worker. ARGV: worker, queues, workflows, limit, ids to leave.
-- Returns: whether some wait, then for each its fields in the order of TakenQuestion.

local worker, limit = ARGV[1], tonumber(ARGV[4])
local reply = { 0 }
local ids = redis.call('ZRANGEBYSCORE', P .. 'questions', now_exact, '+inf')
if #ids == 0 or not alive(worker) then
  return reply
end

local function set_of(names)
  local set = {}
  for _, name in ipairs(cmsgpack.unpack(names)) do
    set[name] = true
  end
  return set
end

local queues, workflows, excluded = set_of(ARGV[2]), set_of(ARGV[3]), set_of(ARGV[5])
for _, id in ipairs(ids) do
  local asked = redis.call('HMGET', P .. 'q:' .. id, 'instance', 'life', 'question')
  local instance, life = asked[1], asked[2]
  local row = instance and redis.call(
    'HMGET', P .. 'i:' .. instance, 'status', 'life', 'execution', 'workflow', 'queue', 'priority',
    'turns', 'worker'
  )
  if row and row[1] and (row[2] or '') == life then
    local holder = row[8] or ''
    local held = holder ~= '' and alive(holder)
    local begun = tonumber(row[7] or 0) > 0 or not is_open(row[1])
    local served = not held and queues[row[5]] and not excluded[instance]
    local mine = workflows[row[4]] and (holder == worker or served)
    if not begun or not mine then
      if not begun or held then
        reply[1] = 1
      end
    elseif #reply > limit then
      reply[1] = 1
    else
      redis.call('ZREM', P .. 'questions', id)
      reply[#reply + 1] = {
        id, asked[3], instance, life, tonumber(row[3]), row[4], row[5], tonumber(row[6] or 0) or 0,
        tonumber(row[7]), holder,
      }
    end
  end
end
return reply
