-- What an execution begins with that takes over a part of another one's history.

-- Write it; `attempts` has the rows of activities of the execution before, by their commands, or is
-- empty. What was gathered is flushed.
local function begin_execution(id, execution, life, begin, attempts)
  call_many('RPUSH', turns_key(id, execution), begin.turns, 1)
  for _, message in ipairs(begin.inbox) do
    local value = (message.own and execution or '') .. '@' .. exact(message.at) .. ':' .. message.event
    redis.call('HSET', P .. 'x:' .. id, next_number('message'), value)
  end
  for _, new in ipairs(begin.activities) do
    local old = attempts[new.command]
    know_queue(new.queue)
    offer_activity(id, execution, new.command, life, {
      worker = '', queue = new.queue, cancel = false, attempt = old and old.attempt or 1,
      scheduled_at = old and old.scheduled_at or now, activity = new.activity, input = new.input,
      options = new.options, failure = old and old.failure or '', priority = new.priority,
      progress = old and old.progress or '', limit_key = new.limit_key,
    }, old and old.visible_at or now)
  end
  flush()
  for n, child in ipairs(begin.children) do
    local created = create_one(child, true)
    flush()
    if not created then
      local parent = child.parent
      deliver(parent.instance, {
        execution = parent.execution, life = parent.life or '', event = begin.taken[n],
      })
      flush()
    end
  end
end
